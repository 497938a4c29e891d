//! Connections that send faster than anybody can answer. Pure.

use std::net::SocketAddr;

/// A connection that sent this many requests in advance while the queue never ran empty floods it: tiny_http's queue
/// has no bound, and parsing is faster than answering.
const LIMIT: usize = 1024;

/// Counts how far connections are ahead of their answers while the queue is never empty.
///
/// A client that waits for its answers has one request in a batch at most; every further one is sent in advance.
#[derive(Default)]
pub struct Flood {
    /// At most a batch of them counts at a time, so a list is searched as fast as a table.
    ahead: Vec<(SocketAddr, usize)>,
}

impl Flood {
    /// The queue ran empty: nobody is ahead.
    pub fn clear(&mut self) {
        self.ahead.clear();
    }

    /// Notes who sent the requests of a full batch.
    pub fn note(&mut self, peers: &[SocketAddr]) {
        for (position, peer) in peers.iter().enumerate() {
            if !peers[..position].contains(peer) {
                continue;
            }
            match self.ahead.iter_mut().find(|(known, _)| known == peer) {
                Some((_, count)) => *count += 1,
                None => self.ahead.push((*peer, 1)),
            }
        }
    }

    pub fn is_flooding(&self, peer: SocketAddr) -> bool {
        self.ahead.iter().any(|(known, ahead)| *known == peer && *ahead > LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_far_ahead_of_its_answers_floods_until_the_queue_runs_empty() {
        let [greedy, modest] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut batch = vec![greedy; 63];
        batch.push(modest);
        let mut flood = Flood::default();
        for _ in 0..LIMIT / 62 {
            flood.note(&batch);
        }
        assert!(!flood.is_flooding(greedy));
        flood.note(&batch);
        assert!(flood.is_flooding(greedy) && !flood.is_flooding(modest));
        flood.clear();
        assert!(!flood.is_flooding(greedy));
    }
}
