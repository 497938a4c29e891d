//! One line for each request: what was asked, what was answered, for whom. Pure.

use crate::http::routes::{Method, Reply, Request, Route};
use crate::json;
use crate::observability::logging;
use chrono::{DateTime, Utc};
use log::Level;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One record of a request.
pub struct Exchange<'a> {
    pub request: &'a Request<'a>,
    pub route: Route,
    pub reply: &'a Reply,
    pub id: &'a str,
    pub forwarded_for: Option<&'a str>,
    pub peer: Option<SocketAddr>,
}

impl Exchange<'_> {
    /// Probes and scrapes come every few seconds from each observer.
    pub fn level(&self) -> Level {
        if self.route.is_probe() { Level::Debug } else { Level::Info }
    }

    /// All of the line but its end, which `end_line` writes.
    pub fn write_line(&self, out: &mut Vec<u8>, host: &str, now: DateTime<Utc>) {
        /// What is kept of a path; the rest would only fill the disk.
        const PATH: usize = 256;
        let Request { method, path, .. } = self.request;
        let path = path.get(..PATH).unwrap_or(path);
        let ts = now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let level = logging::level_name(self.level());
        // Writing into a Vec cannot fail, and all these are strings.
        let _ = write!(out, r#"{{"ts":"{ts}","level":"{level}","msg":"request","method":"{}","path":"#, method.label());
        let _ = json::write_string(out, path);
        let body = if *method == Method::Head { 0 } else { self.reply.body.as_bytes().len() };
        let _ = write!(out, r#","status":{},"bytes":{body},"#, self.reply.status);
        match self.reply.cache {
            Some(cache) => drop(write!(out, r#""cache":"{}","#, cache.label())),
            None => out.extend_from_slice(br#""cache":null,"#),
        }
        let _ = write!(out, r#""host":"{host}","request_id":"{}","remote":"#, self.id);
        match self.remote() {
            Some(remote) => drop(write!(out, r#""{remote}""#)),
            None => out.extend_from_slice(b"null"),
        }
    }

    /// The client: as the proxy names it, else whoever connected. What is not an address is not believed.
    fn remote(&self) -> Option<IpAddr> {
        let first = self.forwarded_for.and_then(|list| list.split(',').next());
        first.and_then(|address| address.trim().parse().ok()).or(self.peer.map(|peer| peer.ip()))
    }
}

/// Ends a line with what is known last: how long the request took, in milliseconds.
pub fn end_line(out: &mut Vec<u8>, duration: Duration) {
    let (millis, micros) = (duration.as_millis(), duration.as_micros() % 1000);
    // Writing into a Vec cannot fail.
    let _ = writeln!(out, r#","duration_ms":{millis}.{micros:03}}}"#);
}
