//! The system calls that std does not have: signals as events, and a look at sockets that somebody else owns.
//!
//! All `unsafe` of the service is in this file and in `heap.rs`.

use socket2::SockRef;
use std::ffi::CStr;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use std::{fs, io, mem, ptr};

/// What ends the wait of the main thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT.
    Stop,
    /// A connection arrived, or `wake` was called.
    Wake,
    /// Nothing, for the time given.
    Timeout,
}

/// Blocks the signals that `wait_event` waits for. To be called before the first thread starts: threads inherit it,
/// so no thread is ever interrupted. A blocked signal also reaches PID 1, which has no default action for it.
pub fn block_signals() {
    // SAFETY: the set is initialized before it is used; both calls only read and write it.
    unsafe {
        let set = event_signals();
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
    }
    IS_BLOCKED.store(true, SeqCst);
}

/// Waits for a signal, at most as long as `timeout`.
pub fn wait_event(timeout: Duration) -> Event {
    wait_for(&event_signals(), timeout)
}

/// Waits as long as `timeout` unless it is told to stop. What would wake it meanwhile does so at the next wait.
pub fn wait_for_stop(timeout: Duration) -> Event {
    wait_for(&stop_signals(), timeout)
}

fn wait_for(signals: &libc::sigset_t, timeout: Duration) -> Event {
    // The type of seconds has no name here: libc is about to change it on musl, and warns whoever names it.
    let timeout = libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as libc::c_long };
    // SAFETY: all three pointers are valid for the call, and a null one is allowed for the siginfo.
    let signal = unsafe { libc::sigtimedwait(signals, ptr::null_mut(), &timeout) };
    match signal {
        libc::SIGTERM | libc::SIGINT => Event::Stop,
        libc::SIGIO => Event::Wake,
        _ => Event::Timeout,
    }
}

/// Set once the signals are blocked: before that, one would end the process.
static IS_BLOCKED: AtomicBool = AtomicBool::new(false);

/// Ends the main thread's wait. May be called from anywhere, also from within an allocation.
pub fn wake() {
    if IS_BLOCKED.load(SeqCst) {
        // SAFETY: sends a signal to this process, which blocks it and waits for it.
        unsafe { libc::kill(libc::getpid(), libc::SIGIO) };
    }
}

fn event_signals() -> libc::sigset_t {
    signal_set(&[libc::SIGTERM, libc::SIGINT, libc::SIGIO])
}

fn stop_signals() -> libc::sigset_t {
    signal_set(&[libc::SIGTERM, libc::SIGINT])
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set; the signal numbers are valid.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Has a thread, and those that it starts from now on, wait for a core until what runs there sleeps or has had its share:
/// fewer switches between threads, so less CPU a request. Takes no privilege; a sandbox that refuses costs CPU and nothing
/// else. musl's own sched_setscheduler refuses always, so this goes around it.
pub fn make_yielding(thread: u32) {
    // A struct sched_param: its one field, the priority, is always 0 here.
    let priority: libc::c_int = 0;
    // SAFETY: the kernel reads one int, and refuses a thread that has ended.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, thread, libc::SCHED_BATCH, &raw const priority) };
}

/// Has the kernel send a `Wake` for every connection that arrives, also when the accept thread takes it at once
/// (which a poll would miss).
pub fn wake_on_connections(listener: &TcpListener) -> io::Result<()> {
    let fd = listener.as_raw_fd();
    // SAFETY: plain fcntl calls on an open descriptor.
    unsafe {
        check(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()))?;
        let flags = check(libc::fcntl(fd, libc::F_GETFL))?;
        check(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC))?;
    }
    Ok(())
}

/// Sets the length of the queue of connections that are not accepted yet, which std leaves no choice of.
pub fn set_backlog(listener: &TcpListener, length: i32) -> io::Result<()> {
    // SAFETY: listen on a socket that listens already only changes its backlog.
    check(unsafe { libc::listen(listener.as_raw_fd(), length) }).map(drop)
}

/// Raises the limit of open files as far as this process may: an accept that fails for want of a descriptor ends
/// tiny_http's accept thread for good.
pub fn raise_open_files_limit(wanted: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a limit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < wanted {
            limit.rlim_cur = wanted.min(limit.rlim_max);
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

pub fn open_files_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call gets a valid pointer to a limit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}

/// The threads of this process, in the order in which they were started.
pub fn threads() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

pub fn has_thread(id: u32) -> bool {
    fs::exists(format!("/proc/self/task/{id}")).unwrap_or(true)
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

/// A connection of a listening port, seen from outside the thread that serves it.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    fd: RawFd,
    /// `None` once the connection is dead: then only a thread that hangs can still hold it.
    pub peer: Option<SocketAddr>,
}

/// The part of the kernel's `tcp_info` that tells how a connection is doing. Source: linux/tcp.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    pub sent: u64,
    pub received: u64,
    /// The peer has closed its side.
    pub peer_closed: bool,
}

/// All connections accepted on `port`. Each appears twice (tiny_http holds a reading and a writing descriptor).
pub fn connections(port: u16) -> Vec<Connection> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let fds = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    fds.filter_map(|fd| connection(fd, port)).collect()
}

fn connection(fd: RawFd, port: u16) -> Option<Connection> {
    // SAFETY: nothing is kept. If the descriptor is closed meanwhile the calls below fail, which is an answer too.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let socket = SockRef::from(&socket);
    if socket.local_addr().ok()?.as_socket()?.port() != port {
        return None;
    }
    let peer = socket.peer_addr().ok().and_then(|address| address.as_socket());
    if peer.is_none() && socket.is_listener().unwrap_or(true) {
        return None;
    }
    Some(Connection { fd, peer })
}

impl Connection {
    /// `None` if the connection is gone.
    pub fn traffic(&self) -> Option<Traffic> {
        const CLOSE_WAIT: u8 = 8;
        // Offsets in struct tcp_info: tcpi_state, tcpi_bytes_received, tcpi_bytes_sent.
        const STATE: usize = 0;
        const RECEIVED: usize = 128;
        const SENT: usize = 200;
        let info = tcp_info(self.fd)?;
        let word = |at: usize| u64::from_ne_bytes(info[at..at + 8].try_into().expect("eight bytes"));
        Some(Traffic { sent: word(SENT), received: word(RECEIVED), peer_closed: info[STATE] == CLOSE_WAIT })
    }

    /// Whether bytes wait that nobody has read.
    pub fn has_unread(&self) -> bool {
        let mut unread: libc::c_int = 0;
        // SAFETY: FIONREAD writes one int.
        unsafe { libc::ioctl(self.fd, libc::FIONREAD, &mut unread) == 0 && unread > 0 }
    }

    /// A descriptor of our own for this connection, or `None` if its number belongs to something else by now.
    pub fn hold(&self) -> Option<OwnedFd> {
        // SAFETY: the copy is checked below to still be the connection that was meant.
        let copy = unsafe { BorrowedFd::borrow_raw(self.fd) }.try_clone_to_owned().ok()?;
        let peer = SockRef::from(&copy).peer_addr().ok().and_then(|address| address.as_socket());
        (peer == self.peer).then_some(copy)
    }

    /// Ends a connection whatever its thread does: reads give its end, writes fail.
    pub fn shut(&self) {
        if let Some(copy) = self.hold() {
            end(&copy);
        }
    }
}

/// Ends a connection at once. When its last descriptor is closed the peer gets a reset: a peer that goes on sending
/// would otherwise wait for a window that never opens again.
pub fn end(socket: &impl AsFd) {
    let socket = SockRef::from(socket);
    // Both fail only where the connection is closed already.
    let _ = socket.set_linger(Some(Duration::ZERO));
    let _ = socket.shutdown(Shutdown::Both);
}

/// Makes the kernel drop what arrives for new connections, or stop dropping it. Clients send it again after a second;
/// to tiny_http it looks as if nobody came.
pub fn hold_arrivals(listener: &TcpListener, held: bool) {
    // A socket filter of one instruction: let through no byte of any packet. Source: linux/filter.h.
    const RETURN_CONSTANT: u16 = 0x06;
    let mut nothing = libc::sock_filter { code: RETURN_CONSTANT, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &mut nothing };
    let option = if held { libc::SO_ATTACH_FILTER } else { libc::SO_DETACH_FILTER };
    // SAFETY: the kernel copies the program before the call returns. Where it refuses (some sandboxes), connections
    // past the limit are closed all the same, only later.
    unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        );
    }
}

/// How many connections wait to be accepted.
pub fn accept_queue(listener: &TcpListener) -> u32 {
    // Offset of tcpi_unacked, which for a listening socket is the length of its queue. Source: net/ipv4/tcp.c.
    const UNACKED: usize = 24;
    let queue = tcp_info(listener.as_raw_fd()).map(|info| info[UNACKED..UNACKED + 4].try_into().expect("four bytes"));
    queue.map_or(0, u32::from_ne_bytes)
}

/// The kernel's `struct tcp_info`, as far as it is used here; `None` if the descriptor is no TCP socket any more.
fn tcp_info(fd: RawFd) -> Option<[u8; 208]> {
    let mut info = [0; 208];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into the buffer.
    let result =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length) };
    (result == 0).then_some(info)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
