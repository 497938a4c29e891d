//! `Reply` → the bytes of an HTTP response. Pure.

use crate::http::head::{Connection, Head};
use crate::http::routes::{Body, Method, Reply};
use chrono::{DateTime, Utc};
use std::io::Write;

/// What a response says besides its reply.
pub struct Context<'a> {
    pub method: Method,
    pub head: &'a Head<'a>,
    pub request_id: &'a str,
    /// This replica's name.
    pub host: &'a str,
    /// Whether the client is asked to leave this connection.
    pub ends: bool,
}

/// Writes head and body into `out`, which is cleared first.
pub fn write(out: &mut Vec<u8>, reply: &Reply, context: &Context, date: &str) {
    let body = reply.body.as_bytes();
    out.clear();
    // Writing into a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {} {}\r\nDate: {date}\r\n", reply.status, reason(reply.status));
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
    out.extend_from_slice(match context.head.connection {
        _ if context.head.refusal.is_some() || context.ends => b"Connection: close\r\n",
        Connection::Closes => b"Connection: close\r\n",
        Connection::StaysByRequest => b"Connection: keep-alive\r\n",
        Connection::Stays => b"",
    });
    out.extend_from_slice(reply.headers.as_bytes());
    let Context { host, request_id, .. } = context;
    let _ = write!(out, "X-Served-By: {host}\r\nX-Request-Id: {request_id}\r\nX-Content-Type-Options: nosniff\r\n\r\n");
    if context.method != Method::Head {
        out.extend_from_slice(body);
    }
}

/// `Date`, formatted once a second.
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

/// Sources: RFC 9110, section 15; RFC 6585 for 429 and 431.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        303 => "See Other",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::routes::Reply;
    use std::collections::HashSet;

    fn status_line(status: u16) -> String {
        let head = Head::default();
        let context = Context { method: Method::Get, head: &head, request_id: "a", host: "b", ends: false };
        let mut out = Vec::new();
        write(&mut out, &Reply::error(status, "no"), &context, "now");
        String::from_utf8(out).unwrap().lines().next().unwrap().to_owned()
    }

    #[test]
    fn a_status_line_has_the_reason_phrase_of_the_standard() {
        for line in [
            "200 OK", "303 See Other", "304 Not Modified", "400 Bad Request", "404 Not Found",
            "405 Method Not Allowed", "411 Length Required", "413 Content Too Large", "414 URI Too Long",
            "417 Expectation Failed", "429 Too Many Requests", "431 Request Header Fields Too Large",
            "500 Internal Server Error", "503 Service Unavailable",
        ] {
            assert_eq!(status_line(line[..3].parse().unwrap()), format!("HTTP/1.1 {line}"));
        }
    }

    #[test]
    fn every_status_in_the_code_has_a_reason_phrase() {
        let files = [include_str!("routes.rs"), include_str!("head.rs"), include_str!("worker.rs")];
        // The first argument of a call, or the first member of a tuple.
        let first = |rest: &str| rest.trim_start().split_once(',').and_then(|(first, _)| first.parse().ok());
        let statuses: HashSet<u16> = files.iter().flat_map(|file| file.split('(').filter_map(first)).collect();
        assert!(statuses.contains(&500) && statuses.contains(&303), "{statuses:?}");
        for status in statuses.into_iter().filter(|status| (200..600).contains(status)) {
            assert!(status_line(status).len() > "HTTP/1.1 200 ".len(), "{status} has no reason phrase");
        }
    }
}
