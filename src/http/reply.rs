//! A handler's result, before it becomes bytes, a log line and a metric.

use crate::mood::entry::Entry;
use crate::mood::service::Cache;
use std::sync::Arc;

pub const JSON: &str = "application/json";
pub const HTML: &str = "text/html; charset=utf-8";
pub const NO_STORE: &str = "Cache-Control: no-store\r\n";

pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Body,
    pub cache: Option<Cache>,
    pub etag: Option<String>,
    /// Further headers, each with its line end.
    pub headers: &'static str,
}

pub enum Body {
    Empty,
    Entry(Arc<Entry>),
    Shared(Arc<[u8]>),
    Bytes(Vec<u8>),
    Text(&'static str),
}

impl Body {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Body::Empty => b"",
            Body::Entry(entry) => entry.json.as_bytes(),
            Body::Shared(bytes) => bytes,
            Body::Bytes(bytes) => bytes,
            Body::Text(text) => text.as_bytes(),
        }
    }
}

impl Reply {
    pub fn new(status: u16, content_type: &'static str, body: Body) -> Reply {
        Reply { status, content_type, body, cache: None, etag: None, headers: "" }
    }

    /// A flat JSON object with its members in the given order.
    pub fn json(status: u16, members: &[(&str, &str)]) -> Reply {
        let mut body = Vec::new();
        for (position, (name, value)) in members.iter().enumerate() {
            body.extend_from_slice(if position == 0 { b"{\"" } else { b",\"" });
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(b"\":");
            // Writing a string into a Vec cannot fail.
            let _ = serde_json::to_writer(&mut body, value);
        }
        body.push(b'}');
        Reply::new(status, JSON, Body::Bytes(body))
    }

    pub fn ok() -> Reply {
        Reply::new(200, JSON, Body::Text(r#"{"status":"ok"}"#)).with_headers(NO_STORE)
    }

    pub fn error(status: u16, error: &str) -> Reply {
        Reply::json(status, &[("error", error)])
    }

    pub fn not_found() -> Reply {
        Reply::error(404, "there is nothing at this path")
    }

    pub fn with_headers(self, headers: &'static str) -> Reply {
        Reply { headers, ..self }
    }

    pub fn with_cache(self, cache: Cache) -> Reply {
        Reply { cache: Some(cache), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_object_keeps_its_order_and_escapes_its_values() {
        let reply = Reply::json(200, &[("b", "x\"\n"), ("a", "")]);
        assert_eq!(reply.body.as_bytes(), br#"{"b":"x\"\n","a":""}"#);
    }
}
