//! The limits that tiny_http lacks. Without tiny_http this directory could be deleted.
//!
//! tiny_http has one thread per connection, no timeouts and no bounds, and it does not expose its sockets. But every operation
//! on a connection passes through four functions of libc: accept4, recv, send and close. This program defines them.
//!
//! - `calls`  the four functions; they report to the table
//! - `table`  the state of every connection, and the decision to close it
//! - `gate`   a worker's part: it rejects requests of closed connections, and closes connections after some responses
//! - `flood`  finds clients that send requests faster than the workers can respond

mod calls;
mod flood;
mod gate;
mod table;

pub use gate::Gate;
pub use table::{CLOSE_REASONS, Connections, SWEEP_INTERVAL};

use crate::config::{Config, Limits};
use crate::lock::lock;
use crate::observability::metrics::Metrics;
use crate::observability::process;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use table::MOST_SOCKETS;

/// Open files other than connections: the listener, the standard streams, files of /proc that /metrics reads.
const OTHER_FILES: usize = 32;
/// tiny_http holds a reading and a writing descriptor of each connection.
const FILES_PER_CONNECTION: usize = 2;
/// The longest wait for the accept thread to end.
const CLOSE_WITHIN: Duration = Duration::from_millis(50);

/// The table of the last server. The four functions have no argument to pass it in. It is never freed, since threads of an
/// ended server may still call them.
static CONNECTIONS: AtomicPtr<Connections> = AtomicPtr::new(ptr::null_mut());
static ONE_SERVER: Mutex<()> = Mutex::new(());

fn connections() -> Option<&'static Connections> {
    // SAFETY: the pointer is null, or comes from a box that is never freed.
    unsafe { CONNECTIONS.load(SeqCst).as_ref() }
}

/// The connections of one listener. Dropping it closes all of them.
pub struct Watch {
    pub connections: &'static Connections,
    _one_server: MutexGuard<'static, ()>,
}

/// Watches all connections that `listener` accepts from now on. There is only one table per process: while another listener is
/// watched, this function blocks.
pub fn watch(listener: &TcpListener, limits: Limits, metrics: Arc<Metrics>) -> Watch {
    let one_server = lock(&ONE_SERVER);
    let connections = Box::into_raw(Box::new(Connections::new(listener.as_raw_fd(), limits, metrics)));
    CONNECTIONS.store(connections, SeqCst);
    // SAFETY: the box is never freed.
    Watch { connections: unsafe { &*connections }, _one_server: one_server }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.connections.close(Instant::now() + CLOSE_WITHIN);
    }
}

/// Raises this process's limit of open files for all connections, or lowers the limit of connections to fit.
pub fn fit_open_files(config: &mut Config) {
    let limits = &mut config.limits;
    let reserve = OTHER_FILES + config.redis_pool_size as usize + config.workers * MOST_SOCKETS;
    let files = allow_open_files((limits.connections * FILES_PER_CONNECTION + reserve) as u64);
    let bound = ((files as usize).saturating_sub(reserve) / FILES_PER_CONNECTION).max(4);
    if bound < limits.connections {
        log::warn!("the limit of {files} open files (ulimit -n) allows {bound} connections only");
        limits.connections = bound;
    }
}

/// Raises the limit of open files to `wanted`, or as far as permitted, and returns the new limit.
fn allow_open_files(wanted: u64) -> u64 {
    let mut limit = process::open_files_limit();
    if limit.rlim_cur < wanted {
        limit.rlim_cur = wanted.min(limit.rlim_max);
        // SAFETY: the call gets a valid pointer to a limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
    process::open_files_limit().rlim_cur
}
