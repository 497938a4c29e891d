//! SIGTERM and SIGINT as events.

use std::time::Duration;
use std::{mem, ptr};

/// Blocks the signals that `wait_for_stop` waits for. Threads inherit this, so it comes before the first thread. Blocked signals
/// also reach PID 1, for which the kernel has no default action.
pub fn block() {
    // SAFETY: the set is initialized before it is used; the call only reads it.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &stop_signals(), ptr::null_mut()) };
}

/// Waits for SIGTERM or SIGINT, at most as long as `timeout`, and returns whether one arrived.
pub fn wait_for_stop(timeout: Duration) -> bool {
    // The type of seconds has no name here: libc is about to change it on musl, and warns whoever names it.
    let timeout = libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as libc::c_long };
    // SAFETY: all three pointers are valid for the call, and a null one is allowed for the siginfo.
    unsafe { libc::sigtimedwait(&stop_signals(), ptr::null_mut(), &timeout) > 0 }
}

fn stop_signals() -> libc::sigset_t {
    let mut set = mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set; the signal numbers are valid.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        set.assume_init()
    }
}
