//! The table of connections: their state, and the decision to close them.

use crate::config::Limits;
use crate::lock::lock;
use crate::observability::metrics::Metrics;
use socket2::SockRef;
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often the main thread calls `sweep`, and so the longest delay in enforcing a time limit.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Why this side closes connections; labels of `http_connections_closed_total`.
pub const CLOSE_REASONS: [&str; 7] = ["idle", "slow", "oversized", "excess", "unread", "flood", "refused"];

/// A connection with more bytes of unfinished requests is a large one.
const LARGE: usize = 1024;
/// The limit for all large connections together. tiny_http needs up to thirty times as much memory (short header lines are
/// the worst).
const LARGE_BYTES: usize = 192 * 1024;
/// A thread that was given a connection has read from it by then, unless the machine is very busy.
const THREAD_START: Duration = Duration::from_secs(1);
/// How often the accept thread tries to make room for new connections.
const RECHECK_INTERVAL: Duration = Duration::from_millis(20);
/// A connection that was just opened, or whose request just began, is not closed to make room for this time.
const YOUNG: Duration = Duration::from_millis(100);
/// If a connection that this side closed still exists after this time, its thread is blocked permanently.
const END_TIME: Duration = Duration::from_secs(1);
/// At this number of blocked threads, of about 12 KB each, the replica restarts.
const STUCK: usize = 200;
/// How many sockets `refuse` returns at most: each takes a descriptor more.
pub const MOST_SOCKETS: usize = 4;

/// The state of a client's connections as the workers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Good,
    /// Older than the limit. Its client gets `Connection: close`, so that replicas that came later get their share.
    Aged,
    /// Closed by this side. Bytes after an unread body may look like a request, so no further request is carried out.
    Refused,
}

/// All connections of one listener. The functions of libc in `calls` report to it, workers query it, and the main thread calls
/// `sweep` to enforce the limits.
pub struct Connections {
    listener: RawFd,
    limits: Limits,
    metrics: Arc<Metrics>,
    table: Mutex<Table>,
    /// Wakes the accept thread: a connection ended, or its thread has begun to read.
    changed: Condvar,
    /// The length of the table's `unread`. Outside the table, since every recv reads it.
    unread: AtomicUsize,
    /// Whether any connection's standing may not be good. Outside the table, since it is read per request.
    is_any_marked: AtomicBool,
}

#[derive(Default)]
struct Table {
    /// By descriptor.
    entries: Vec<Entry>,
    open: usize,
    /// Connections from which no thread has read yet: their descriptors and inodes. Hardly ever more than one.
    unread: Vec<(RawFd, Option<u64>)>,
    /// Bytes of unfinished requests of all large connections.
    large_bytes: usize,
    /// Why connections are no longer accepted.
    accept_error: Option<String>,
    is_listener_closed: bool,
    is_closing: bool,
}

#[derive(Default)]
enum Entry {
    #[default]
    Free,
    /// The descriptor that was accepted (tiny_http writes to it), or the reading one once that is closed.
    Connection(Connection),
    /// The copy that tiny_http reads from, and the descriptor that was accepted.
    ReaderOf(RawFd),
}

/// The copy of its descriptor from which a connection's thread reads.
#[derive(PartialEq)]
enum Reader {
    /// No thread has read yet.
    Unknown,
    Open(RawFd),
    /// The connection's entry has moved to it, since the accepted one is closed.
    Itself,
    Closed,
}

/// How many bytes were received since the last end of a head, which to tiny_http is exactly CR LF CR LF.
#[derive(Default)]
struct HeadEnd {
    bytes: usize,
    /// How many bytes of such an end the last ones are.
    matched: u8,
}

impl HeadEnd {
    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.bytes += 1;
            self.matched = match (self.matched, *byte) {
                (0 | 2, b'\r') | (1 | 3, b'\n') => self.matched + 1,
                (_, b'\r') => 1,
                _ => 0,
            };
            if self.matched == 4 {
                *self = HeadEnd::default();
            }
        }
    }
}

struct Connection {
    /// `None` if the client disconnected before it was accepted.
    peer: Option<SocketAddr>,
    reader: Reader,
    opened: Instant,
    /// When it was opened, its last response was sent, or the first byte of a request after that arrived.
    since: Instant,
    /// Bytes that were received since the last response, or since the end of the last head if those are many.
    unanswered: usize,
    head: HeadEnd,
    has_answer: bool,
    shut_at: Option<Instant>,
    standing: Standing,
}

impl Connections {
    pub fn new(listener: RawFd, limits: Limits, metrics: Arc<Metrics>) -> Connections {
        Connections {
            listener,
            limits,
            metrics,
            table: Mutex::default(),
            changed: Condvar::new(),
            unread: AtomicUsize::new(0),
            is_any_marked: AtomicBool::new(false),
        }
    }

    pub fn is_of(&self, listener: RawFd) -> bool {
        self.listener == listener
    }

    /// Blocks the accept thread at the limit of connections, and until the last connection has its thread. tiny_http may queue
    /// a connection for a thread that is no longer idle, where it would wait indefinitely. Returns at once when the table is closing.
    pub fn wait_for_room(&self) {
        let began = Instant::now();
        let mut table = self.locked();
        while !table.is_closing {
            let is_full = table.open >= self.limits.connections;
            if is_full {
                self.make_room(&mut table);
            } else if table.unread.is_empty() || began.elapsed() >= THREAD_START {
                return;
            }
            let waited = self.changed.wait_timeout(table, RECHECK_INTERVAL);
            table = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    /// A connection was accepted.
    pub fn opened(&self, fd: RawFd) {
        // SAFETY: the descriptor was accepted just now, and std does not know it yet.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        let peer = SockRef::from(&socket).peer_addr().ok().and_then(|peer| peer.as_socket());
        self.metrics.connections_open.inc();
        let mut table = self.locked();
        table.open += 1;
        table.unread.push((fd, inode(fd)));
        self.unread.store(table.unread.len(), SeqCst);
        table.insert(fd, Entry::Connection(Connection::new(peer, Instant::now())));
    }

    /// A thread is about to read. From this it follows which descriptor is the reading one.
    pub fn reads(&self, fd: RawFd) {
        if self.unread.load(SeqCst) == 0 {
            return;
        }
        // Both descriptors of a socket have its inode.
        let inode = inode(fd);
        let mut table = self.locked();
        let Some(at) = table.unread.iter().position(|(_, unread)| *unread == inode) else { return };
        let (accepted, _) = table.unread.swap_remove(at);
        self.unread.store(table.unread.len(), SeqCst);
        if let Some(connection) = table.connection_of(accepted) {
            connection.reader = Reader::Open(fd);
        }
        table.insert(fd, Entry::ReaderOf(accepted));
        self.changed.notify_one();
    }

    /// Whether the thread may have the received bytes. After this side closed a connection, its thread receives no more data,
    /// even if the kernel has some.
    pub fn received(&self, fd: RawFd, bytes: &[u8]) -> bool {
        let now = Instant::now();
        let mut table = self.locked();
        let mut is_ended = false;
        table.update(fd, |connection| match connection.shut_at {
            Some(_) => is_ended = true,
            None => connection.received(bytes, now),
        });
        if table.large_bytes > LARGE_BYTES
            && let Some((largest, _)) = table.connections().max_by_key(|(_, connection)| connection.unanswered)
        {
            table.update(largest, |connection| {
                if connection.shut_at.is_none() {
                    self.end(largest, connection, "oversized", now);
                }
                connection.unanswered = 0;
            });
        }
        !is_ended
    }

    pub fn sent(&self, fd: RawFd) {
        self.locked().update(fd, |connection| connection.answered(Instant::now()));
    }

    /// A descriptor is about to be closed; with its second one a connection has ended.
    pub fn closes(&self, fd: RawFd) {
        let mut table = self.locked();
        if fd == self.listener && !table.is_listener_closed {
            table.accept_error.get_or_insert_with(|| "the thread that accepts them has ended".to_owned());
            table.is_listener_closed = true;
            self.changed.notify_all();
        }
        match table.remove(fd) {
            Entry::Free => {}
            Entry::ReaderOf(accepted) => {
                if let Some(connection) = table.connection_of(accepted) {
                    connection.reader = Reader::Closed;
                }
            }
            Entry::Connection(mut connection) => match mem::replace(&mut connection.reader, Reader::Itself) {
                Reader::Open(reader) => table.insert(reader, Entry::Connection(connection)),
                _ => {
                    table.large_bytes -= large(connection.unanswered);
                    table.open -= 1;
                    table.unread.retain(|(unread, _)| *unread != fd);
                    self.unread.store(table.unread.len(), SeqCst);
                    self.metrics.connections_open.dec();
                    self.changed.notify_one();
                }
            },
        }
    }

    pub fn accepting_ended(&self, error: &std::io::Error) {
        self.locked().accept_error = Some(error.to_string());
    }

    /// The worst standing of all connections from `peer`. tiny_http exposes only the peer address of a request's connection.
    pub fn standing(&self, peer: SocketAddr) -> Standing {
        if !self.is_any_marked.load(SeqCst) {
            return Standing::Good;
        }
        let mut table = self.locked();
        let known = table.connections().filter(|(_, connection)| connection.peer == Some(peer));
        known.map(|(_, connection)| connection.standing).max().unwrap_or(Standing::Good)
    }

    /// Rejects all further requests from `peer`. Returns the sockets that the caller ends, usually one; all others are ended.
    pub fn refuse(&self, peer: SocketAddr, reason: &str) -> Vec<TcpStream> {
        let now = Instant::now();
        let mut sockets = Vec::new();
        let mut table = self.locked();
        self.is_any_marked.store(true, SeqCst);
        for (fd, connection) in table.connections().filter(|(_, connection)| connection.peer == Some(peer)) {
            connection.standing = Standing::Refused;
            if connection.shut_at.is_some() {
                continue;
            }
            if sockets.len() < MOST_SOCKETS
                && let Ok(socket) = borrow(fd).try_clone_to_owned()
            {
                self.metrics.connection_closed(reason);
                connection.shut_at = Some(now);
                sockets.push(socket.into());
            } else {
                self.end(fd, connection, reason, now);
            }
        }
        sockets
    }

    /// The ended connections of `peer` hang from now on. No request will come from them, so a later connection from the same
    /// address is not to be taken for one of them.
    pub fn forget_peer(&self, peer: SocketAddr) {
        for (_, connection) in self.locked().connections() {
            if connection.peer == Some(peer) && connection.shut_at.is_some() {
                connection.peer = None;
            }
        }
    }

    /// Ends what is over its limits. Returns the reason if the replica must drain and exit.
    pub fn sweep(&self) -> Option<String> {
        let now = Instant::now();
        let (mut stuck, mut is_any_marked) = (0, false);
        let mut table = self.locked();
        for (fd, connection) in table.connections() {
            match (connection.shut_at, connection.overdue(now, &self.limits)) {
                // A thread that has ended closed its descriptor; only requests that wait for a worker hold the other one.
                (Some(shut_at), _) => {
                    stuck += usize::from(connection.reader != Reader::Closed && now - shut_at > END_TIME);
                }
                (None, Some(reason)) => self.end(fd, connection, reason, now),
                (None, None) => {}
            }
            if !self.limits.age.is_zero() && now - connection.opened > self.limits.age {
                connection.standing = connection.standing.max(Standing::Aged);
            }
            is_any_marked |= connection.standing != Standing::Good && connection.peer.is_some();
        }
        self.is_any_marked.store(is_any_marked, SeqCst);
        self.metrics.connections_stuck.set(stuck as i64);
        match &table.accept_error {
            Some(error) => Some(format!("connections can no longer be accepted: {error}")),
            None if stuck >= STUCK.min(self.limits.connections / 2) => {
                Some(format!("{stuck} connections hang for good"))
            }
            None => None,
        }
    }

    /// Stops accepting, and shuts all connections down at once. Returns when the listener is closed, or at the deadline.
    pub fn close(&self, deadline: Instant) {
        let mut table = self.locked();
        table.is_closing = true;
        self.changed.notify_all();
        if !table.is_listener_closed {
            // The accept thread then closes the listener. Fails only if it is closed already.
            let _ = SockRef::from(&borrow(self.listener)).shutdown(Shutdown::Both);
        }
        loop {
            let now = Instant::now();
            for (fd, connection) in table.connections().filter(|(_, connection)| connection.shut_at.is_none()) {
                connection.shut_at = Some(now);
                // Fails only if the client has disconnected.
                let _ = SockRef::from(&borrow(fd)).shutdown(Shutdown::Both);
            }
            if table.is_listener_closed || now >= deadline {
                return;
            }
            let waited = self.changed.wait_timeout(table, RECHECK_INTERVAL);
            table = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    /// Whether any live connection may hold a request that no worker has seen: bytes that wait to be read, or that its thread
    /// read just now.
    pub fn has_unseen(&self) -> bool {
        let is_new = |connection: &Connection| connection.unanswered > 0 && connection.since.elapsed() < YOUNG;
        let mut table = self.locked();
        let mut live = table.connections().filter(|(_, connection)| connection.shut_at.is_none());
        live.any(|(fd, connection)| is_new(connection) || has_unread(fd))
    }

    /// Closes connections until an eighth of the limit is free. The order: those that never sent anything, idle ones, stalled
    /// requests; the oldest first in each group.
    fn make_room(&self, table: &mut Table) {
        let now = Instant::now();
        let ending = table.connections().filter(|(_, connection)| connection.shut_at.is_some()).count();
        let wanted = self.limits.connections - self.limits.connections / 8;
        let excess = (table.open - ending).saturating_sub(wanted);
        let mut ends: Vec<_> = table.connections().filter(|(_, connection)| connection.may_end(now)).collect();
        ends.sort_by_key(|(_, connection)| (connection.unanswered > 0, connection.has_answer, connection.since));
        let missed = |fd: RawFd, connection: &Connection| connection.unanswered == 0 && has_unread(fd);
        for (fd, connection) in ends.into_iter().filter(|(fd, connection)| !missed(*fd, connection)).take(excess) {
            self.end(fd, connection, "excess", now);
        }
    }

    fn end(&self, fd: RawFd, connection: &mut Connection, reason: &str, now: Instant) {
        self.metrics.connection_closed(reason);
        connection.shut_at = Some(now);
        end(&borrow(fd));
    }

    fn locked(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Table {
    fn insert(&mut self, fd: RawFd, entry: Entry) {
        let at = fd as usize;
        if at >= self.entries.len() {
            self.entries.resize_with(at + 1, Entry::default);
        }
        self.entries[at] = entry;
    }

    fn remove(&mut self, fd: RawFd) -> Entry {
        self.entries.get_mut(fd as usize).map(mem::take).unwrap_or_default()
    }

    fn connection_of(&mut self, fd: RawFd) -> Option<&mut Connection> {
        let at = match self.entries.get(fd as usize)? {
            Entry::ReaderOf(accepted) => *accepted,
            _ => fd,
        };
        match self.entries.get_mut(at as usize)? {
            Entry::Connection(connection) => Some(connection),
            _ => None,
        }
    }

    fn connections(&mut self) -> impl Iterator<Item = (RawFd, &mut Connection)> {
        self.entries.iter_mut().enumerate().filter_map(|(fd, entry)| match entry {
            Entry::Connection(connection) => Some((fd as RawFd, connection)),
            _ => None,
        })
    }

    /// Changes a connection and, with it, the sum over the large ones.
    fn update(&mut self, fd: RawFd, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connection_of(fd) {
            let before = large(connection.unanswered);
            change(connection);
            let after = large(connection.unanswered);
            self.large_bytes = self.large_bytes + after - before;
        }
    }
}

impl Connection {
    fn new(peer: Option<SocketAddr>, now: Instant) -> Connection {
        Connection {
            peer,
            reader: Reader::Unknown,
            opened: now,
            since: now,
            unanswered: 0,
            head: HeadEnd::default(),
            has_answer: false,
            shut_at: None,
            standing: Standing::Good,
        }
    }

    fn received(&mut self, bytes: &[u8], now: Instant) {
        if self.unanswered == 0 && self.has_answer {
            // The first bytes of a request on a kept connection: its time begins now.
            self.since = now;
        }
        self.unanswered += bytes.len();
        self.head.note(bytes);
    }

    fn answered(&mut self, now: Instant) {
        // The answer may belong to a request that was sent in advance of a large one. Few bytes may be a body, which ends without
        // a sign of its own.
        self.unanswered = if self.head.bytes > LARGE { self.head.bytes } else { 0 };
        self.has_answer = true;
        self.since = now;
    }

    /// The time limit that the connection exceeds, if any.
    fn overdue(&self, now: Instant, limits: &Limits) -> Option<&'static str> {
        let age = now - self.since;
        match (self.unanswered > 0, self.has_answer) {
            (true, _) => (age > limits.request).then_some("slow"),
            (false, true) => (age > limits.idle).then_some("idle"),
            (false, false) => (age > limits.request * 2).then_some("idle"),
        }
    }

    /// Whether it may be ended to make room.
    fn may_end(&self, now: Instant) -> bool {
        let is_idle = self.has_answer && self.unanswered == 0;
        self.shut_at.is_none() && (is_idle || now - self.since > YOUNG)
    }
}

fn large(bytes: usize) -> usize {
    if bytes > LARGE { bytes } else { 0 }
}

/// A descriptor in the locked table.
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: a descriptor is taken out of the table before it is closed, for which the table must be locked.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Closes a connection at once. Closing its last descriptor then sends a reset. Otherwise a sending peer would wait for a
/// window that never reopens.
pub fn end(socket: &impl AsFd) {
    let socket = SockRef::from(socket);
    // Both fail only where the connection is closed already.
    let _ = socket.set_linger(Some(Duration::ZERO));
    let _ = socket.shutdown(Shutdown::Both);
}

/// Whether unread bytes are waiting.
fn has_unread(fd: RawFd) -> bool {
    let mut unread: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    unsafe { libc::ioctl(fd, libc::FIONREAD, &mut unread) == 0 && unread > 0 }
}

fn inode(fd: RawFd) -> Option<u64> {
    let mut stat = mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the whole struct if it succeeds.
    unsafe { (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init().st_ino) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    const LIMITS: Limits =
        Limits { connections: 10, idle: Duration::from_secs(75), request: Duration::from_secs(5), age: Duration::ZERO };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_trickle_does_not_renew_a_request_s_time() {
        let start = Instant::now();
        let mut connection = Connection::new(None, start);
        (0..=5).for_each(|second| connection.received(b"x", after(start, second)));
        assert_eq!(connection.overdue(after(start, 5), &LIMITS), None);
        assert_eq!(connection.overdue(after(start, 6), &LIMITS), Some("slow"));
    }

    #[test]
    fn an_answer_makes_a_connection_idle_and_a_new_request_starts_its_own_time() {
        let start = Instant::now();
        let mut connection = Connection::new(None, start);
        assert_eq!(connection.overdue(after(start, 11), &LIMITS), Some("idle"));
        connection.received(b"GET / HTTP/1.1\r\n\r\n", start);
        connection.answered(after(start, 1));
        assert_eq!(connection.overdue(after(start, 70), &LIMITS), None);
        assert_eq!(connection.overdue(after(start, 77), &LIMITS), Some("idle"));
        connection.received(b"GET /", after(start, 70));
        assert_eq!(connection.overdue(after(start, 74), &LIMITS), None);
        assert_eq!(connection.overdue(after(start, 76), &LIMITS), Some("slow"));
    }

    /// A table without a listener, and the two descriptors of a connection in it, of which both are known.
    fn connected(peer: &TcpStream, accepted: &TcpStream) -> (Connections, RawFd, RawFd, TcpStream) {
        let connections = Connections::new(-1, LIMITS, Arc::new(Metrics::new("test")));
        let reader = accepted.try_clone().unwrap();
        let (writes, reads) = (accepted.as_raw_fd(), reader.as_raw_fd());
        connections.opened(writes);
        connections.reads(peer.as_raw_fd());
        assert_eq!(connections.unread.load(SeqCst), 1, "a foreign descriptor was taken for the reading one");
        connections.reads(reads);
        assert_eq!(connections.unread.load(SeqCst), 0);
        (connections, writes, reads, reader)
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (peer, listener.accept().unwrap().0)
    }

    #[test]
    fn a_connection_is_open_until_both_descriptors_are_closed_in_either_order() {
        for is_reader_first in [true, false] {
            let (peer, accepted) = pair();
            let (connections, writes, reads, _reader) = connected(&peer, &accepted);
            connections.received(reads, &[b'x'; 2 * LARGE]);
            let (first, last) = if is_reader_first { (reads, writes) } else { (writes, reads) };
            connections.closes(first);
            assert_eq!(connections.metrics.connections_open.get(), 1);
            assert_eq!(connections.locked().large_bytes, 2 * LARGE);
            connections.closes(last);
            assert_eq!(connections.metrics.connections_open.get(), 0);
            assert_eq!(connections.locked().large_bytes, 0);
            assert_eq!(connections.locked().open, 0);
        }
    }

    #[test]
    fn the_accept_thread_of_a_closed_table_does_not_wait_for_room() {
        let (peer, accepted) = pair();
        let (mut connections, _, _, _reader) = connected(&peer, &accepted);
        connections.limits.connections = 1;
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| connections.wait_for_room());
            std::thread::sleep(RECHECK_INTERVAL * 2);
            assert!(!waiting.is_finished(), "the table is full");
            connections.locked().is_listener_closed = true;
            connections.close(Instant::now());
        });
    }

    #[test]
    fn the_largest_connection_ends_when_all_large_ones_have_too_many_bytes() {
        let (peer, accepted) = pair();
        let (connections, writes, reads, _reader) = connected(&peer, &accepted);
        let bytes = vec![b'x'; LARGE_BYTES - 4];
        assert!(connections.received(reads, &bytes) && connections.received(reads, b"\r\n\r\n"));
        connections.sent(writes);
        assert!(connections.received(reads, &bytes));
        // The answer to an earlier request.
        connections.sent(writes);
        assert!(connections.received(reads, b"12345"));
        assert!(!connections.received(reads, b"6"), "it was ended");
        assert_eq!(connections.locked().large_bytes, 0);
    }

    #[test]
    fn a_refused_peer_stays_refused_until_its_connection_has_ended() {
        let (peer, accepted) = pair();
        let (connections, writes, reads, _reader) = connected(&peer, &accepted);
        let address = peer.local_addr().unwrap();
        assert_eq!(connections.standing(address), Standing::Good);
        assert_eq!(connections.refuse(address, "refused").len(), 1);
        connections.sweep();
        assert_eq!(connections.standing(address), Standing::Refused);
        assert_eq!(connections.refuse(address, "refused").len(), 0, "it is ended once");
        connections.closes(reads);
        assert_eq!(connections.standing(address), Standing::Refused);
        connections.closes(writes);
        assert_eq!(connections.standing(address), Standing::Good);
    }

    #[test]
    fn a_thread_that_outlives_its_connection_counts_as_stuck_and_a_queued_request_does_not() {
        let (peer, accepted) = pair();
        let (connections, writes, reads, _reader) = connected(&peer, &accepted);
        connections.refuse(peer.local_addr().unwrap(), "refused");
        std::thread::sleep(END_TIME + Duration::from_millis(10));
        connections.sweep();
        assert_eq!(connections.metrics.connections_stuck.get(), 1);
        connections.closes(reads);
        connections.sweep();
        assert_eq!(connections.metrics.connections_stuck.get(), 0);
        connections.closes(writes);
    }

    #[test]
    fn the_end_of_a_head_is_found_across_reads() {
        for (received, bytes) in
            [("GET /\r\n\r\n|", 0), ("a\r|\n\r|\n12", 2), ("\r\r\n\r\n", 0), ("\n\r\n", 3), ("\r\n\r\r\n", 5)]
        {
            let mut head = HeadEnd::default();
            received.split('|').for_each(|part| head.note(part.as_bytes()));
            assert_eq!(head.bytes, bytes, "{received:?}");
        }
    }
}
