//! One log line per request. No I/O.

use crate::http::reply::Reply;
use crate::http::request::Request;
use chrono::{DateTime, Utc};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub struct Exchange<'a> {
    pub request: &'a Request<'a>,
    pub reply: &'a Reply,
    pub id: &'a str,
    pub peer: Option<SocketAddr>,
}

impl Exchange<'_> {
    /// Writes the line without its end, which `end_line` writes.
    pub fn write_line(&self, out: &mut Vec<u8>, level: &str, host: &str, now: DateTime<Utc>) {
        /// A longer path is cut: the rest only fills the disk.
        const PATH: usize = 256;
        let Request { method, path, head, .. } = self.request;
        let path = path.get(..PATH).unwrap_or(path);
        let ts = now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        // Writing strings into a Vec cannot fail.
        let _ = write!(out, r#"{{"ts":"{ts}","level":"{level}","msg":"request","method":"{method}","path":"#);
        let _ = serde_json::to_writer(&mut *out, path);
        let body = if *method == "HEAD" { 0 } else { self.reply.body.as_bytes().len() };
        let _ = write!(out, r#","status":{},"bytes":{body},"#, self.reply.status);
        match self.reply.cache {
            Some(cache) => drop(write!(out, r#""cache":"{}","#, cache.label())),
            None => out.extend_from_slice(br#""cache":null,"#),
        }
        let _ = write!(out, r#""host":"{host}","request_id":"{}","remote":"#, self.id);
        match remote(head.forwarded_for, self.peer) {
            Some(remote) => drop(write!(out, r#""{remote}""#)),
            None => out.extend_from_slice(b"null"),
        }
    }
}

/// The client's address: the one that the proxy forwards, if it is valid, or that of the connection.
fn remote(forwarded_for: Option<&str>, peer: Option<SocketAddr>) -> Option<IpAddr> {
    let first = forwarded_for.and_then(|list| list.split(',').next());
    first.and_then(|address| address.trim().parse().ok()).or(peer.map(|peer| peer.ip()))
}

/// Ends a line with the duration of the request, in milliseconds.
pub fn end_line(out: &mut Vec<u8>, duration: Duration) {
    let (millis, micros) = (duration.as_millis(), duration.as_micros() % 1000);
    // Writing into a Vec cannot fail.
    let _ = writeln!(out, r#","duration_ms":{millis}.{micros:03}}}"#);
}
