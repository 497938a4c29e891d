//! The limits that tiny_http lacks.
//!
//! tiny_http has a thread per connection, no timeouts and no bounds, and it does not expose its sockets. But every operation
//! on a connection passes through four functions of libc: accept4, recv, send and close. This program defines them
//! (`calls`). They report to one table (`table`), which tracks the state of every connection without inspecting sockets.
//! `flood` finds clients that send requests faster than the workers can respond, and `gate` is a worker's part.

mod calls;
mod flood;
mod gate;
mod table;

pub use gate::Gate;
pub use table::{CLOSE_REASONS, Connections, MOST_SOCKETS, SWEEP_INTERVAL};

use crate::config::Limits;
use crate::observability::metrics::Metrics;
use crate::os;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock};

/// Open files other than connections: the listener, the standard streams, files of /proc that /metrics reads.
const OTHER_FILES: usize = 32;
/// tiny_http holds a reading and a writing descriptor of each connection.
const FILES_PER_CONNECTION: usize = 2;

/// The four functions have no argument to pass a table in.
static CONNECTIONS: OnceLock<Connections> = OnceLock::new();

/// Watches all connections that `listener` accepts from now on.
///
/// # Panics
/// If it is called twice: a process has one listener.
pub fn watch(listener: &TcpListener, limits: Limits, metrics: Arc<Metrics>) -> &'static Connections {
    let connections = Connections::new(listener.as_raw_fd(), limits, metrics);
    assert!(CONNECTIONS.set(connections).is_ok(), "a process has one listener");
    CONNECTIONS.get().expect("it was set just now")
}

/// Makes room for all connections among the open files, or allows as many connections as there is room for. `others` is
/// the number of files for the workers and the Redis pool.
pub fn bounded_by_open_files(mut limits: Limits, others: usize) -> Limits {
    let reserve = OTHER_FILES + others;
    let files = os::allow_open_files((limits.connections * FILES_PER_CONNECTION + reserve) as u64);
    let bound = ((files as usize).saturating_sub(reserve) / FILES_PER_CONNECTION).max(4);
    if bound < limits.connections {
        log::warn!("the limit of {files} open files (ulimit -n) allows {bound} connections only");
        limits.connections = bound;
    }
    limits
}
