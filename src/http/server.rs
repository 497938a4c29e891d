//! The life of a server: it listens, serves until it is stopped, drains, and ends.

use super::app::App;
use super::pool::Pool;
use crate::build_info;
use crate::config::Config;
use crate::limits::{self, Connections, SWEEP_INTERVAL};
use crate::observability::metrics::Metrics;
use crate::observability::process;
use socket2::SockRef;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Holds every response as a whole. Writing then blocks only if the client has not read earlier responses.
const SEND_BUFFER: usize = 128 * 1024;
/// More than any accepted request.
const RECEIVE_BUFFER: usize = 32 * 1024;
/// The longest that such a client may block a worker.
const SEND_TIMEOUT: Duration = Duration::from_millis(50);
/// After this time, a peer that disappeared without a FIN (a host that lost power) is disconnected.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that wait to be accepted. At the connection limit, new ones wait here.
const BACKLOG: i32 = 128;

/// From the signal to the end of the drain. `Config::drain` is shorter.
const DRAIN_WITHIN: Duration = Duration::from_millis(1600);
/// After that, workers finish their batches. With closing (50 ms) and the last write of the log (200 ms), a stop takes 1.9 s at
/// most.
const LAST_RESPONSES: Duration = Duration::from_millis(50);

/// Why a server ended, unless it was stopped.
#[derive(Debug)]
pub enum Failure {
    /// It could not start. One sentence for the user.
    Start(String),
    /// It can no longer serve, so it drained. A new process can. The reason has been logged.
    Broken,
    /// It was stopped again during the drain.
    Interrupted,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Start(format!("cannot start: {error}"))
    }
}

/// A listening socket whose options every connection inherits.
///
/// # Errors
/// The address is in use, or not one of this machine, or the port is reserved.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    let socket = SockRef::from(&listener);
    // std does not let its callers choose the backlog; a second call changes it.
    socket.listen(BACKLOG)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))?;
    socket.set_keepalive(true)?;
    Ok(listener)
}

/// Serves until `stop` returns true, then drains. Afterwards the listener and all connections are closed.
///
/// `stop` waits for at most the given time and returns whether the server should stop. It is also called during the drain;
/// true then interrupts the drain. A process can run several servers, but only one after the other: while another one runs,
/// this function blocks and does not call `stop`.
///
/// # Errors
/// See `Failure`.
pub fn serve(listener: TcpListener, config: &Config, mut stop: impl FnMut(Duration) -> bool) -> Result<(), Failure> {
    // Port 0 means any free port; the log has the assigned one.
    let address = listener.local_addr()?;
    let host = process::hostname();
    let metrics = Arc::new(Metrics::new(&host));
    let watch = limits::watch(&listener, config.limits.clone(), Arc::clone(&metrics));
    let connections = watch.connections;
    let app = Arc::new(App::new(config, metrics, host));
    let pool = Pool::start(listener, config.workers, &app, connections)?;
    let store = if config.redis.is_some() { "redis" } else { "embedded" };
    log::info!("listening on {address}, store {store}, version {} ({})", build_info::VERSION, build_info::COMMIT);

    let failure = loop {
        if stop(SWEEP_INTERVAL) {
            break None;
        }
        if let Some(reason) = connections.sweep() {
            log::error!("{reason}; draining, then exiting to be restarted");
            break Some(Failure::Broken);
        }
    };
    let drain_by = Instant::now() + DRAIN_WITHIN;
    if drain(config.drain, drain_by, connections, &app, stop) {
        pool.end(drain_by + LAST_RESPONSES);
        log::info!("stopped");
        failure.map_or(Ok(()), Err)
    } else {
        pool.end(Instant::now());
        log::warn!("stopped by a second signal");
        Err(Failure::Interrupted)
    }
}

/// Keeps serving for `time`, so that load balancers see the 503 of /readyz. Every response closes its connection. Then waits
/// until all received requests have their responses. Returns false if the drain was interrupted.
fn drain(
    time: Duration,
    deadline: Instant,
    connections: &Connections,
    app: &App,
    mut stop: impl FnMut(Duration) -> bool,
) -> bool {
    log::info!("draining");
    app.draining.store(true, SeqCst);
    let began = Instant::now();
    let is_idle = || app.metrics.in_flight.get() == 0 && !connections.has_unseen();
    while Instant::now() < deadline && (began.elapsed() < time || !is_idle()) {
        let left = time.saturating_sub(began.elapsed());
        if stop(left.clamp(Duration::from_millis(5), Duration::from_millis(100))) {
            return false;
        }
    }
    true
}
