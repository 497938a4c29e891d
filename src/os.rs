//! The system calls that std does not have.

use std::ffi::CStr;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::time::Duration;
use std::{fs, io, mem, ptr};

/// Blocks the signals that `wait_for_stop` waits for. Call before the first thread starts: threads inherit it, so no thread
/// is interrupted. A blocked signal also reaches PID 1, which has no default action for it.
pub fn block_signals() {
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

/// Tunes the allocator for one thread per connection. Call before the first thread starts.
pub fn prepare_heap() {
    // glibc gives threads heaps of their own, which costs megabytes.
    #[cfg(target_env = "gnu")]
    // SAFETY: sets an option of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
    // musl unmaps the last group of blocks of a size as soon as all of them are free. For some sizes that happened once
    // per request: a third of its CPU time. One block of each size that is never freed prevents it.
    #[cfg(target_env = "musl")]
    for units in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 18, 20, 25, 31, 36, 42, 50, 63, 72, 84, 102, 127] {
        // Its sizes, in units of 16 bytes of which 4 are its own. Source: src/malloc/mallocng in musl.
        mem::forget(std::hint::black_box(Vec::<u8>::with_capacity(units * 16 - 4)));
    }
}

/// Makes all threads wait for a core until what runs there sleeps or has used its share: fewer switches between threads, so
/// less CPU per request. Call before the first thread starts. musl's own sched_setscheduler always fails, so this bypasses
/// it. A sandbox that refuses costs CPU and nothing else.
pub fn yield_to_others() {
    // A struct sched_param: its one field, the priority, is always 0 here.
    let priority: libc::c_int = 0;
    // SAFETY: the kernel reads one int.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_BATCH, &raw const priority) };
}

/// Sets the length of the queue of connections that are not accepted yet, which std leaves no choice of.
pub fn set_backlog(listener: &TcpListener, length: i32) -> io::Result<()> {
    // SAFETY: listen on a socket that listens already only changes its backlog.
    check(unsafe { libc::listen(listener.as_raw_fd(), length) }).map(drop)
}

/// Allows this process `wanted` open files, or as many as it may have, and returns the new limit.
pub fn allow_open_files(wanted: u64) -> u64 {
    let mut limit = open_files_limits();
    if limit.rlim_cur < wanted {
        limit.rlim_cur = wanted.min(limit.rlim_max);
        // SAFETY: the call gets a valid pointer to a limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
    open_files_limit()
}

pub fn open_files_limit() -> u64 {
    open_files_limits().rlim_cur
}

fn open_files_limits() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call gets a valid pointer to a limit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit
}

pub fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// In bytes.
pub fn page_size() -> u64 {
    // SAFETY: asks for a constant of the system.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

/// The host's name, reduced to what may stand in a header.
pub fn hostname() -> String {
    let mut name = [0u8; 256];
    // SAFETY: the length leaves the last byte, so the name always ends with a NUL.
    let failed = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } != 0;
    let name = CStr::from_bytes_until_nul(&name).map(CStr::to_string_lossy).unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')).collect();
    if failed || name.is_empty() { "unknown".to_owned() } else { name }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
