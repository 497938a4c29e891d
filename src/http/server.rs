//! tiny_http: the listener, the workers that answer its requests, and their end.

use crate::http::app::App;
use crate::http::worker::{BATCH, Worker};
use crate::limits::Connections;
use crate::os;
use socket2::SockRef;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Holds any answer whole, so that writing waits only for a client that left earlier answers unread.
const SEND_BUFFER: usize = 128 * 1024;
/// More than any request that is not refused.
const RECEIVE_BUFFER: usize = 32 * 1024;
/// The longest that such a client may hold up a worker.
const SEND_TIMEOUT: Duration = Duration::from_millis(50);
/// A peer that is gone without a word (a host that lost power) is noticed after this time.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that wait to be accepted. At the connection limit, new ones wait here.
const BACKLOG: i32 = 128;

pub struct Server {
    http: tiny_http::Server,
    is_stopping: AtomicBool,
}

/// A listening socket whose options every connection inherits.
///
/// # Errors
/// The address is in use, or not one of this machine, or the port is reserved.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    os::set_backlog(&listener, BACKLOG)?;
    let socket = SockRef::from(&listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))?;
    socket.set_keepalive(true)?;
    Ok(listener)
}

impl Server {
    /// Starts accepting connections on `listener` and reading their requests; `start_workers` answers them.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn open(listener: TcpListener) -> io::Result<Arc<Server>> {
        let http = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        Ok(Arc::new(Server { http, is_stopping: AtomicBool::new(false) }))
    }

    /// Starts answering.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn start_workers(
        self: &Arc<Server>,
        workers: usize,
        app: &Arc<App>,
        connections: &'static Connections,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let workers = (0..workers).map(|n| {
            let (server, app) = (Arc::clone(self), Arc::clone(app));
            let work = move || server.work(&mut Worker::new(&app, connections));
            thread::Builder::new().name(format!("worker-{n}")).spawn(work)
        });
        workers.collect()
    }

    /// Lets every worker end after its batch, then has `last` answer what still waits.
    pub fn stop(&self, workers: Vec<JoinHandle<()>>, last: &mut Worker) {
        self.is_stopping.store(true, SeqCst);
        workers.iter().for_each(|_| self.http.unblock());
        let unblocks = workers.len();
        for worker in workers {
            // A panic has been logged, and ends no other worker.
            let _ = worker.join();
        }
        // An `unblock` that no worker took looks like the end of the queue.
        for _ in 0..=unblocks {
            while let Ok(Some(request)) = self.http.try_recv() {
                last.answer_batch(vec![request]);
            }
        }
    }

    fn work(&self, worker: &mut Worker) {
        while !self.is_stopping.load(SeqCst) {
            // An error is an `unblock`, or the end of accepting, which `Connections::sweep` reports.
            let Ok(first) = self.http.recv() else { continue };
            let mut batch = vec![first];
            // An `unblock` that is meant for a sleeping worker may end this loop; then this worker takes its place and sees
            // the flag.
            while batch.len() < BATCH
                && let Ok(Some(request)) = self.http.try_recv()
            {
                batch.push(request);
            }
            worker.answer_batch(batch);
        }
    }
}
