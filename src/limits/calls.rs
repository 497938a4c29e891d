//! accept4, recv, send and close of libc, as std calls them. Each makes the same system call as libc and reports it to the table.
//!
//! A symbol that the program defines takes precedence over the one in libc, both with a static and with a dynamic libc.

use super::connections;
use libc::{c_int, c_void, size_t, sockaddr, socklen_t, ssize_t};
use std::thread;
use std::time::{Duration, Instant};
use std::{ptr, slice};

/// How long a failed accept is retried after a lack of memory or descriptors. tiny_http stops accepting after any error.
const RETRY_FOR: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

// SAFETY (all four): the arguments are passed on to the kernel as they are, which is all that libc does with them. The table
// calls none of these functions while it is locked, and cannot panic or unwind into std.

#[unsafe(no_mangle)]
unsafe extern "C" fn accept4(listener: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
    let accept = || libc::syscall(libc::SYS_accept4, listener, address, length, flags) as c_int;
    let Some(connections) = connections().filter(|connections| connections.is_of(listener)) else {
        return accept();
    };
    connections.wait_for_room();
    let mut failing_since = None;
    loop {
        let accepted = accept();
        if accepted >= 0 {
            connections.opened(accepted);
            return accepted;
        }
        let error = *libc::__errno_location();
        let since = *failing_since.get_or_insert_with(Instant::now);
        match error {
            // std itself calls again.
            libc::EINTR => return accepted,
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM if since.elapsed() < RETRY_FOR => {
                thread::sleep(RETRY_INTERVAL);
            }
            // EINVAL: `Connections::close` shut the listener down.
            libc::EBADF
            | libc::EINVAL
            | libc::ENOTSOCK
            | libc::EMFILE
            | libc::ENFILE
            | libc::ENOBUFS
            | libc::ENOMEM => {
                connections.accepting_ended(&std::io::Error::from_raw_os_error(error));
                *libc::__errno_location() = error;
                return accepted;
            }
            // The error affects one connection only, or comes from the network (accept(2)).
            _ => failing_since = None,
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recv(fd: c_int, buffer: *mut c_void, size: size_t, flags: c_int) -> ssize_t {
    let connections = connections();
    if let Some(connections) = connections {
        connections.reads(fd);
    }
    let none = ptr::null_mut::<c_void>();
    let received = libc::syscall(libc::SYS_recvfrom, fd, buffer, size, flags, none, none) as ssize_t;
    match connections {
        Some(connections)
            if received > 0 && !connections.received(fd, slice::from_raw_parts(buffer.cast(), received as usize)) =>
        {
            0
        }
        _ => received,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn send(fd: c_int, bytes: *const c_void, size: size_t, flags: c_int) -> ssize_t {
    let none = ptr::null_mut::<c_void>();
    let sent = libc::syscall(libc::SYS_sendto, fd, bytes, size, flags, none, 0) as ssize_t;
    if let (Some(connections), 1..) = (connections(), sent) {
        connections.sent(fd);
    }
    sent
}

#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    if let Some(connections) = connections() {
        // This must come before the kernel can reuse the number.
        connections.closes(fd);
    }
    libc::syscall(libc::SYS_close, fd) as c_int
}
