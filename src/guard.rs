//! What tiny_http leaves unbounded: starved, idle, slow, oversized, excess and stuck connections.
//!
//! tiny_http has one thread a connection and no time-out anywhere, and it does not show its sockets. The guard looks
//! at them from outside, through the kernel: at once when a connection or a large allocation is reported, often while
//! a new connection has no answer yet, and otherwise once a second, or every other second while there is none.

use crate::config::{self, Limits};
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::os::{self, Connection, Traffic};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between two looks, whatever wakes the guard.
pub const PAUSE: Duration = Duration::from_millis(5);
/// While a new connection has no answer yet.
const SHORT: Duration = Duration::from_millis(10);
/// While only connections that are older than `YOUNG` have no answer yet.
const MIDDLE: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(1);
/// While there is no connection.
const IDLE: Duration = Duration::from_secs(2);
const YOUNG: Duration = Duration::from_secs(1);

/// A connection has starved if its bytes stay unread over this many looks.
const STARVED_LOOKS: u32 = 2;
/// More than a request may have (`head.rs`): a connection with so many bytes unanswered is watched as oversized.
const OVERSIZED: u64 = 24 * 1024;
/// Bytes of unfinished requests of all oversized connections together. tiny_http needs up to thirty times as much
/// memory for them (short headers are the worst).
const OVERSIZED_BYTES: u64 = 128 * 1024;
/// Files that are open besides the two of each connection: the listener, the store's connections, the log.
const OTHER_FILES: usize = 64;
/// Connections whose thread hangs for good, 12 KB each. Past this many the replica restarts.
const STUCK: usize = 200;

/// What the workers and the guard share: connections whose later requests must not be carried out.
pub struct Refused {
    port: u16,
    /// When each was refused. Few at any time, and gone with their connection.
    peers: Mutex<Vec<(SocketAddr, Instant)>>,
    count: AtomicUsize,
}

/// What the guard tells the workers: connections that grew older than they may. Their clients are asked to leave, so that
/// replicas that came later get their share.
#[derive(Default)]
pub struct Aged {
    peers: Mutex<Vec<SocketAddr>>,
    is_any: AtomicBool,
}

impl Aged {
    pub fn contains(&self, peer: SocketAddr) -> bool {
        self.is_any.load(SeqCst) && lock(&self.peers).contains(&peer)
    }

    fn set(&self, peers: Vec<SocketAddr>) {
        self.is_any.store(!peers.is_empty(), SeqCst);
        *lock(&self.peers) = peers;
    }
}

impl Refused {
    pub fn new(port: u16) -> Refused {
        Refused { port, peers: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// Marks a connection and gives a descriptor of it, if it still exists.
    ///
    /// What follows a body that was not read may look like a request; from now on nothing of this peer is carried out.
    pub fn add(&self, peer: SocketAddr) -> Option<OwnedFd> {
        let mut peers = self.peers();
        peers.retain(|(known, _)| *known != peer);
        peers.push((peer, Instant::now()));
        self.count.store(peers.len(), SeqCst);
        os::connections(self.port).iter().find(|connection| connection.peer == Some(peer))?.hold()
    }

    pub fn contains(&self, peer: SocketAddr) -> bool {
        self.count.load(SeqCst) > 0 && self.peers().iter().any(|(known, _)| *known == peer)
    }

    /// Forgets those that are gone: their address may come again as somebody else's. One that was refused a moment ago
    /// may be newer than the list of those alive.
    fn retain(&self, is_alive: impl Fn(&SocketAddr) -> bool) {
        if self.count.load(SeqCst) > 0 {
            let mut peers = self.peers();
            peers.retain(|(peer, refused_at)| is_alive(peer) || refused_at.elapsed() < MIDDLE);
            self.count.store(peers.len(), SeqCst);
        }
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, Vec<(SocketAddr, Instant)>> {
        lock(&self.peers)
    }
}

pub struct Guard {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    refused: Arc<Refused>,
    aged: Arc<Aged>,
    metrics: Arc<Metrics>,
    watched: HashMap<SocketAddr, Watched>,
    stuck_before: usize,
    last_slow_look: Instant,
    accept_thread: u32,
    /// Whether new connections are held back.
    is_full: bool,
}

/// What is remembered of a connection between two looks.
struct Watched {
    traffic: Traffic,
    /// When it appeared.
    opened: Instant,
    /// When it appeared or was last seen to send an answer.
    since: Instant,
    /// Bytes received before the requests that have no answer yet.
    received_before: u64,
    has_answer: bool,
    unread_looks: u32,
    /// When this side ended it.
    shut_at: Option<Instant>,
    seen: bool,
}

/// What a look found out.
pub struct Look {
    /// When to look again, unless an event comes first.
    pub next: Duration,
    /// Why the replica must drain and be started anew.
    pub restart: Option<String>,
}

impl Guard {
    pub fn new(
        listener: TcpListener,
        address: SocketAddr,
        limits: Limits,
        refused: Arc<Refused>,
        aged: Arc<Aged>,
        metrics: Arc<Metrics>,
        accept_thread: u32,
    ) -> Guard {
        let now = Instant::now();
        Guard {
            listener,
            address,
            limits,
            refused,
            aged,
            metrics,
            watched: HashMap::new(),
            stuck_before: 0,
            last_slow_look: now,
            accept_thread,
            is_full: false,
        }
    }

    pub fn look(&mut self) -> Look {
        let now = Instant::now();
        // In a burst even the list below takes its time.
        if os::open_files() >= 2 * self.limits.connections + OTHER_FILES {
            self.hold_arrivals(true);
        }
        // Before the connections are listed: one that still waits to be accepted will not be among them.
        let queued = os::accept_queue(&self.listener);
        let connections = os::connections(self.address.port());
        let live = self.watch(&connections, now);
        // Each connection has two descriptors; a dead one that is still held can only be held by a thread that hangs.
        let dead = connections.iter().filter(|connection| connection.peer.is_none()).count() / 2;
        let stuck = dead + self.watched.values().filter(|watched| watched.outlived_its_end(now)).count();
        self.metrics.connections_open.set((live.len() + dead) as i64);

        let mut next = match (queued > 0 || self.is_full, connections.is_empty()) {
            (true, _) => SHORT,
            (false, true) => IDLE,
            (false, false) => LONG,
        };
        let mut starved = 0;
        let mut aged = Vec::new();
        for (peer, connection) in &live {
            let watched = self.watched.get_mut(peer).expect("every live connection is watched");
            if let Some(reason) = watched.fault(now, &self.limits) {
                self.metrics.connection_closed(reason);
                watched.shut(connection, now);
            }
            if !self.limits.age.is_zero() && now - watched.opened > self.limits.age {
                aged.push(*peer);
            }
            if watched.has_answer || watched.shut_at.is_some() {
                continue;
            }
            next = next.min(if now - watched.since < YOUNG { SHORT } else { MIDDLE });
            watched.unread_looks = if connection.has_unread() { watched.unread_looks + 1 } else { 0 };
            starved += usize::from(watched.unread_looks >= STARVED_LOOKS);
        }
        (0..starved).for_each(|_| self.nudge());
        self.aged.set(aged);
        self.close_oversized(&live, now);
        self.make_room(&live, dead, now);
        self.refused.retain(|peer| live.contains_key(peer));
        Look { next, restart: self.reason_to_restart(stuck, now) }
    }

    /// One descriptor for each live connection, all of them in `self.watched` and nothing else there.
    fn watch(&mut self, connections: &[Connection], now: Instant) -> HashMap<SocketAddr, Connection> {
        let mut live = HashMap::with_capacity(connections.len() / 2);
        for connection in connections {
            let Some(peer) = connection.peer else { continue };
            if live.contains_key(&peer) {
                continue;
            }
            let Some(traffic) = connection.traffic() else { continue };
            live.insert(peer, *connection);
            self.watched
                .entry(peer)
                .and_modify(|watched| watched.update(traffic, now))
                .or_insert_with(|| Watched::new(traffic, now));
        }
        self.watched.retain(|_, watched| std::mem::take(&mut watched.seen));
        live
    }

    /// Wakes a starved connection. tiny_http queues a new connection for an idle thread, and when more arrive than
    /// threads wake, the rest wait until another connection ends. This one ends at once.
    fn nudge(&self) {
        // If it fails, the next look tries again; it would fail while new connections are held back.
        if !self.is_full && TcpStream::connect_timeout(&config::own_address(self.address), SHORT * 10).is_ok() {
            self.metrics.nudges.inc();
        }
    }

    fn close_oversized(&mut self, live: &HashMap<SocketAddr, Connection>, now: Instant) {
        let oversized = |watched: &Watched| watched.shut_at.is_none() && watched.unanswered_bytes() > OVERSIZED;
        let of_all: u64 = self.watched.values().filter(|w| oversized(w)).map(Watched::unanswered_bytes).sum();
        if of_all <= OVERSIZED_BYTES {
            return;
        }
        for (peer, watched) in self.watched.iter_mut().filter(|(_, watched)| oversized(watched)) {
            self.metrics.connection_closed("oversized");
            watched.shut(&live[peer], now);
        }
    }

    /// Holds new connections back in the kernel while there are as many as allowed, and closes some to make room:
    /// those that never sent anything first, then those that are idle, then those whose request does not get on; the
    /// oldest of each first.
    fn make_room(&mut self, live: &HashMap<SocketAddr, Connection>, dead: usize, now: Instant) {
        let open = live.len() + dead;
        self.hold_arrivals(open >= self.limits.connections);
        if !self.is_full {
            return;
        }
        let ending = self.watched.values().filter(|watched| watched.shut_at.is_some()).count();
        let wanted = self.limits.connections - self.limits.connections / 8;
        let may_end = |watched: &Watched| {
            watched.shut_at.is_none() && (watched.unanswered_bytes() == 0 || now - watched.since > MIDDLE * 2)
        };
        let mut ends: Vec<_> = self.watched.iter_mut().filter(|(_, watched)| may_end(watched)).collect();
        ends.sort_by_key(|(_, watched)| (watched.unanswered_bytes() > 0, watched.has_answer, watched.since));
        for (peer, watched) in ends.into_iter().take((open - ending).saturating_sub(wanted)) {
            self.metrics.connection_closed("excess");
            watched.shut(&live[peer], now);
        }
    }

    /// Holds new connections back in the kernel, or lets them in again.
    pub fn hold_arrivals(&mut self, held: bool) {
        if self.is_full != held {
            self.is_full = held;
            os::hold_arrivals(&self.listener, held);
        }
    }

    fn reason_to_restart(&mut self, stuck: usize, now: Instant) -> Option<String> {
        if now - self.last_slow_look < LONG {
            return None;
        }
        self.last_slow_look = now;
        // It ends with an error of accept, which a worker is told, but also with a panic, which nobody is told.
        if !os::has_thread(self.accept_thread) {
            return Some("connections can no longer be accepted".to_owned());
        }
        // A connection may be dead for a moment before its thread notices: only what two looks saw is stuck.
        let lasting = stuck.min(self.stuck_before);
        self.metrics.connections_stuck.set(lasting as i64);
        self.stuck_before = stuck;
        (lasting >= STUCK).then(|| format!("{lasting} connections hang for good"))
    }

    /// Whether any connection has bytes that wait to be read.
    pub fn has_unread(&self) -> bool {
        os::connections(self.address.port()).iter().any(Connection::has_unread)
    }
}

impl Watched {
    fn new(traffic: Traffic, now: Instant) -> Watched {
        Watched {
            traffic,
            opened: now,
            since: now,
            received_before: 0,
            has_answer: traffic.sent > 0,
            unread_looks: 0,
            shut_at: None,
            seen: true,
        }
    }

    fn update(&mut self, traffic: Traffic, now: Instant) {
        if traffic.received < self.traffic.received || traffic.sent < self.traffic.sent {
            // The same address, another connection.
            *self = Watched::new(traffic, now);
            return;
        }
        if traffic.sent > self.traffic.sent {
            self.has_answer = true;
            self.since = now;
            self.received_before = traffic.received;
        } else if self.unanswered_bytes() == 0 && traffic.received > self.traffic.received && self.has_answer {
            // The first bytes of a request on a kept connection: its time begins now.
            self.since = now;
        }
        self.traffic = traffic;
        self.seen = true;
    }

    fn shut(&mut self, connection: &Connection, now: Instant) {
        connection.shut();
        self.shut_at = Some(now);
    }

    /// A connection that was ended and is still there belongs to a thread that hangs.
    fn outlived_its_end(&self, now: Instant) -> bool {
        self.shut_at.is_some_and(|shut_at| now - shut_at > LONG)
    }

    fn unanswered_bytes(&self) -> u64 {
        self.traffic.received - self.received_before
    }

    /// Why the connection is to be closed, if it is.
    fn fault(&self, now: Instant, limits: &Limits) -> Option<&'static str> {
        if self.shut_at.is_some() {
            return None;
        }
        let age = now - self.since;
        match (self.unanswered_bytes() > 0, self.has_answer) {
            // A thread that sees its peer close ends by itself. One that hangs does not.
            (true, _) if self.traffic.peer_closed && age > limits.request.min(LONG) => Some("slow"),
            (true, _) => (age > limits.request).then_some("slow"),
            (false, true) => (age > limits.idle).then_some("idle"),
            (false, false) => (age > limits.request * 2).then_some("idle"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { connections: 10, idle: Duration::from_secs(75), request: Duration::from_secs(5), age: Duration::ZERO };

    fn traffic(received: u64, sent: u64) -> Traffic {
        Traffic { received, sent, peer_closed: false }
    }

    #[test]
    fn a_trickle_does_not_renew_a_request_s_time() {
        let start = Instant::now();
        let mut watched = Watched::new(traffic(1, 0), start);
        for second in 1..=6 {
            watched.update(traffic(1 + second, 0), start + Duration::from_secs(second));
        }
        assert_eq!(watched.fault(start + Duration::from_secs(6), &LIMITS), Some("slow"));
    }

    #[test]
    fn an_answer_makes_a_connection_idle_and_a_new_request_starts_its_own_time() {
        let start = Instant::now();
        let mut watched = Watched::new(traffic(100, 0), start);
        watched.update(traffic(100, 500), start + Duration::from_secs(1));
        assert_eq!(watched.fault(start + Duration::from_secs(70), &LIMITS), None);
        assert_eq!(watched.fault(start + Duration::from_secs(77), &LIMITS), Some("idle"));
        watched.update(traffic(110, 500), start + Duration::from_secs(70));
        assert_eq!(watched.fault(start + Duration::from_secs(74), &LIMITS), None);
        assert_eq!(watched.fault(start + Duration::from_secs(76), &LIMITS), Some("slow"));
    }

    #[test]
    fn a_port_that_is_used_again_starts_anew() {
        let start = Instant::now();
        let mut watched = Watched::new(traffic(100, 500), start);
        watched.update(traffic(0, 0), start + Duration::from_secs(50));
        assert!(!watched.has_answer);
        assert_eq!(watched.fault(start + Duration::from_secs(55), &LIMITS), None);
    }
}
