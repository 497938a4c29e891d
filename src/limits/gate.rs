//! A worker's part of the limits: which requests are not executed, and which connections end with a response.

use super::flood::Flood;
use super::table::{Connections, Standing, end};
use crate::http::head::Head;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use tiny_http::Request;

pub struct Gate<'a> {
    connections: &'a Connections,
    flood: Flood,
}

impl<'a> Gate<'a> {
    pub fn new(connections: &'a Connections) -> Gate<'a> {
        Gate { connections, flood: Flood::default() }
    }

    /// Notes the clients of a batch. Unless the batch is full, the queue ran empty.
    pub fn note(&mut self, batch: &[Request], is_full: bool) {
        if !is_full {
            return self.flood.clear();
        }
        let peers: Vec<_> = batch.iter().filter_map(|request| request.remote_addr().copied()).collect();
        self.flood.note(&peers);
    }

    /// Returns the request, unless requests of its connection must not be executed any more.
    pub fn admit(&self, request: Request) -> Option<Request> {
        let peer = request.remote_addr().copied();
        let reason = match peer {
            Some(peer) if self.is_refused(peer) => "refused",
            Some(peer) if self.flood.is_flooding(peer) => "flood",
            _ => return Some(request),
        };
        // Also a later connection of this peer.
        self.close(peer, reason);
        let unread = Head::of(&request).unread_body;
        self.discard(request, unread);
        None
    }

    /// Whether the connection was closed after a refused request.
    pub fn is_refused(&self, peer: SocketAddr) -> bool {
        self.connections.standing(peer) == Standing::Refused
    }

    /// Whether the next response should close the connection because of its age.
    pub fn is_aged(&self, peer: SocketAddr) -> bool {
        self.connections.standing(peer) == Standing::Aged
    }

    /// Sends a response.
    pub fn send(&self, mut writer: Box<dyn Write + Send>, response: &[u8], peer: Option<SocketAddr>) {
        let sent = writer.write_all(response).and_then(|()| writer.flush());
        drop(writer);
        // The client does not read earlier responses.
        if sent.is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)) {
            self.close(peer, "unread");
        }
    }

    /// Sends the response to a refused request, and closes its connection. `unread` is the length of a body that tiny_http has
    /// not read yet.
    pub fn refuse(&self, request: Request, response: &[u8], unread: Option<u64>) {
        let Some(peer) = request.remote_addr().copied() else {
            return self.send(request.into_writer(), response, None);
        };
        let sockets = self.connections.refuse(peer, "refused");
        if unread.is_none() {
            self.send(request.into_writer(), response, None);
            for socket in sockets {
                // Fails only if the connection is closed already.
                let _ = socket.shutdown(Shutdown::Both);
            }
            return;
        }
        // tiny_http reads the whole body before it returns the writer, so this response bypasses it.
        for mut socket in sockets {
            // The connection ends whether or not the client takes the response.
            let _ = socket.write_all(response);
            end(&socket);
        }
        self.discard(request, unread);
    }

    pub fn close(&self, peer: Option<SocketAddr>, reason: &str) {
        let sockets = peer.map(|peer| self.connections.refuse(peer, reason));
        sockets.iter().flatten().for_each(end);
    }

    /// Drops a request whose connection is closed: nobody gets the 500 that tiny_http then sends.
    ///
    /// tiny_http first allocates the length of an unread body, and a failed allocation aborts the process. A request that is
    /// too long for that is leaked instead; its connection counts as stuck.
    fn discard(&self, request: Request, unread: Option<u64>) {
        let fits =
            |length| usize::try_from(length).is_ok_and(|length| Vec::<u8>::new().try_reserve_exact(length).is_ok());
        if unread.is_none_or(fits) {
            return drop(request);
        }
        if let Some(peer) = request.remote_addr() {
            self.connections.forget_peer(*peer);
        }
        std::mem::forget(request);
    }
}
