//! `Reply` → the bytes of an HTTP response. No I/O.

use super::head::KeepAlive;
use super::reply::{Body, Reply};
use super::request::Request;
use chrono::{DateTime, Utc};
use std::io::Write;
use tiny_http::StatusCode;

/// What a response contains besides its reply.
pub struct Context<'a> {
    pub request_id: &'a str,
    /// This replica's name.
    pub host: &'a str,
    /// IMF-fixdate.
    pub date: &'a str,
    /// Whether the client is asked to close the connection.
    pub closes: bool,
}

/// Writes head and body into `out`, which is cleared first.
pub fn write(out: &mut Vec<u8>, reply: &Reply, request: &Request, context: &Context) {
    let Context { request_id, host, date, closes } = *context;
    let body = reply.body.as_bytes();
    out.clear();
    // Writing into a Vec cannot fail.
    let reason = match reply.status {
        // tiny_http has the phrase of an older RFC.
        413 => "Content Too Large",
        status => StatusCode(status).default_reason_phrase(),
    };
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\nDate: {date}\r\n", reply.status);
    if !matches!(reply.body, Body::Empty) {
        let _ = write!(out, "Content-Type: {}\r\n", reply.content_type);
    }
    if reply.status != 304 {
        let _ = write!(out, "Content-Length: {}\r\n", body.len());
    }
    if let Some(etag) = &reply.etag {
        let _ = write!(out, "ETag: {etag}\r\n");
    }
    if let Some(cache) = reply.cache {
        let _ = write!(out, "X-Cache: {}\r\n", cache.header());
    }
    out.extend_from_slice(match request.head.keep_alive {
        _ if closes => b"Connection: close\r\n",
        KeepAlive::No => b"Connection: close\r\n",
        KeepAlive::Explicit => b"Connection: keep-alive\r\n",
        KeepAlive::Implicit => b"",
    });
    out.extend_from_slice(reply.headers.as_bytes());
    let _ = write!(out, "X-Served-By: {host}\r\nX-Request-Id: {request_id}\r\nX-Content-Type-Options: nosniff\r\n\r\n");
    if request.method != "HEAD" {
        out.extend_from_slice(body);
    }
}

/// The header `Date`, formatted once per second.
#[derive(Default)]
pub struct HttpDate {
    second: i64,
    text: String,
}

impl HttpDate {
    /// IMF-fixdate (RFC 9110, section 5.6.7).
    pub fn at(&mut self, now: DateTime<Utc>) -> &str {
        if self.second != now.timestamp() || self.text.is_empty() {
            self.second = now.timestamp();
            self.text = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        }
        &self.text
    }
}
