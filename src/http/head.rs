//! Parses the head of a request, and refuses requests that no route may get. No I/O.

use std::iter;
use tiny_http::{HTTPVersion, Header, Request};

/// A longer target gets 414.
const MAX_TARGET: usize = 8 * 1024;
/// More headers, or more bytes of them, get 431.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// A longer body gets 413. tiny_http itself reads shorter ones before it queues the request.
const MAX_BODY: u64 = 1024;

/// The headers that the service uses.
#[derive(Debug, Default)]
pub struct Head<'a> {
    pub accept: Option<List<'a>>,
    pub if_none_match: Option<List<'a>>,
    pub request_id: Option<&'a str>,
    /// The first line, since only the first member of the list is used.
    pub forwarded_for: Option<&'a str>,
    pub keep_alive: KeepAlive,
    /// Why the request is not executed and its connection is closed.
    pub refusal: Option<Refusal>,
    /// The length of a body that tiny_http has not read yet. Dropping the request would wait for it.
    pub unread_body: Option<u64>,
    /// tiny_http reads the body of such a request until the connection ends.
    pub asks_for_upgrade: bool,
}

/// All lines of a header whose value is a list: they form one list (RFC 9110, section 5.3).
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    first: &'a str,
    /// The request's headers from the second such line on; empty for nearly all requests.
    more: &'a [Header],
}

impl<'a> List<'a> {
    /// Adds the line that `headers` begin with.
    fn add(list: &mut Option<List<'a>>, headers: &'a [Header]) {
        match list {
            None => *list = headers.first().map(|header| List { first: header.value.as_str(), more: &[] }),
            Some(list) if list.more.is_empty() => list.more = headers,
            Some(_) => {}
        }
    }

    fn lines(self) -> impl Iterator<Item = &'a str> {
        let is_of_list = move |header: &&Header| header.field == self.more[0].field;
        iter::once(self.first).chain(self.more.iter().filter(is_of_list).map(|header| header.value.as_str()))
    }

    pub fn members(self) -> impl Iterator<Item = &'a str> {
        self.lines().flat_map(|line| line.split(',')).map(str::trim)
    }
}

#[cfg(test)]
impl<'a> From<&'a str> for List<'a> {
    fn from(first: &'a str) -> List<'a> {
        List { first, more: &[] }
    }
}

/// Whether the connection stays open after the response. tiny_http decides by the same rules.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub enum KeepAlive {
    /// The default of HTTP/1.1.
    #[default]
    Implicit,
    /// An HTTP/1.0 client asked for it, so the response must confirm it.
    Explicit,
    No,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Refusal {
    pub status: u16,
    pub error: &'static str,
}

impl<'a> Head<'a> {
    pub fn of(request: &'a Request) -> Head<'a> {
        Head::read(request.headers(), request.url(), request.http_version())
    }

    pub fn read(headers: &'a [Header], target: &str, version: &HTTPVersion) -> Head<'a> {
        let mut head = Head::default();
        let mut body = DeclaredBody::default();
        let mut bytes = 0;
        let mut connection = None;
        for (place, header) in headers.iter().enumerate() {
            let (name, value) = (header.field.as_str().as_str(), header.value.as_str());
            bytes += name.len() + value.len();
            // By length first: comparing every name with all of these costs more than the rest of the parsing.
            match name.len() {
                6 if name.eq_ignore_ascii_case("accept") => List::add(&mut head.accept, &headers[place..]),
                6 if name.eq_ignore_ascii_case("expect") => body.is_expected = true,
                10 if name.eq_ignore_ascii_case("connection") => List::add(&mut connection, &headers[place..]),
                12 if name.eq_ignore_ascii_case("x-request-id") => head.request_id = Some(value),
                13 if name.eq_ignore_ascii_case("if-none-match") => {
                    List::add(&mut head.if_none_match, &headers[place..]);
                }
                14 if name.eq_ignore_ascii_case("content-length") => body.add_length(value),
                15 if name.eq_ignore_ascii_case("x-forwarded-for") => {
                    head.forwarded_for = head.forwarded_for.or(Some(value));
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => body.is_encoded = true,
                _ => {}
            }
        }
        head.keep_alive = keep_alive(connection, version);
        head.asks_for_upgrade = asks_for_upgrade(connection);
        head.unread_body = body.unread();
        head.refusal = match () {
            () if *version < HTTPVersion(1, 0) => refusal(400, "HTTP/0.9 is not spoken here"),
            () if target.len() > MAX_TARGET => refusal(414, "the request target is too long"),
            () if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES => refusal(431, "too many headers"),
            () if target.bytes().any(|byte| byte.is_ascii_control()) => {
                refusal(400, "a control character in the target")
            }
            () => body.refusal(),
        };
        head
    }
}

fn refusal(status: u16, error: &'static str) -> Option<Refusal> {
    Some(Refusal { status, error })
}

/// The body that the head announces.
#[derive(Default)]
struct DeclaredBody {
    length: Option<u64>,
    lengths: u32,
    has_bad_length: bool,
    is_encoded: bool,
    is_expected: bool,
}

impl DeclaredBody {
    fn add_length(&mut self, value: &str) {
        self.lengths += 1;
        // tiny_http uses the first one, and accepts a plus sign: such a body counts as unread, too.
        if self.lengths == 1 {
            self.length = value.parse().ok();
        }
        // Digits only (RFC 9110, section 8.6).
        self.has_bad_length |= value.parse::<u64>().is_err() || value.starts_with('+');
    }

    fn refusal(&self) -> Option<Refusal> {
        match self.length {
            _ if self.has_bad_length => refusal(400, "Content-Length is not a number"),
            _ if self.lengths > 1 => refusal(400, "more than one Content-Length"),
            Some(_) if self.is_encoded => refusal(400, "both Content-Length and Transfer-Encoding"),
            None if self.is_encoded => refusal(411, "a body needs a Content-Length"),
            Some(length) if length > MAX_BODY => refusal(413, "the body is longer than 1 KiB"),
            // No route needs a body, so no 100 is sent (RFC 9110, section 10.1.1).
            Some(length) if length > 0 && self.is_expected => refusal(417, "send the body without Expect, or no body"),
            _ => None,
        }
    }

    /// tiny_http does not read a long body, or one whose client waits for a 100.
    fn unread(&self) -> Option<u64> {
        self.length.filter(|length| !self.is_encoded && (*length > MAX_BODY || (*length > 0 && self.is_expected)))
    }
}

/// tiny_http uses only the first line. If a later one asks for the end, the response repeats it, and the client closes.
fn keep_alive(header: Option<List>, version: &HTTPVersion) -> KeepAlive {
    let is_1_1 = *version >= HTTPVersion(1, 1);
    let Some(list) = header else { return if is_1_1 { KeepAlive::Implicit } else { KeepAlive::No } };
    match () {
        () if list.lines().any(|line| has_word(line, "close")) || asks_for_upgrade(header) => KeepAlive::No,
        () if is_1_1 => KeepAlive::Implicit,
        () if has_word(list.first, "keep-alive") => KeepAlive::Explicit,
        () => KeepAlive::No,
    }
}

fn asks_for_upgrade(connection: Option<List>) -> bool {
    connection.is_some_and(|list| has_word(list.first, "upgrade"))
}

/// Also as a part of a longer word, as tiny_http compares.
fn has_word(line: &str, word: &str) -> bool {
    line.to_ascii_lowercase().contains(word)
}

/// The path of a request target, without query, fragment, and the scheme and host that a proxy may send.
pub fn path(target: &str) -> &str {
    let path = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    path.split(['?', '#']).next().unwrap_or(path)
}

/// Whether a client's request id may go into headers and logs unchanged.
pub fn is_valid_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(version: (u8, u8), headers: &[(&str, &str)]) -> Option<u16> {
        let headers: Vec<_> = headers.iter().map(|(n, v)| Header::from_bytes(*n, *v).unwrap()).collect();
        Head::read(&headers, "/", &HTTPVersion(version.0, version.1)).refusal.map(|refusal| refusal.status)
    }

    #[test]
    fn a_body_is_ignored_up_to_1_kib_and_refused_above() {
        let length = |value| refused((1, 1), &[("Content-Length", value)]);
        assert_eq!((length("0"), length("1024"), length("1025")), (None, None, Some(413)));
        for bad in ["-1", "+1", "1a", "", "18446744073709551616", "1,1"] {
            assert_eq!(length(bad), Some(400), "{bad}");
        }
        assert_eq!(length("18446744073709551615"), Some(413));
        assert_eq!(refused((1, 1), &[("Content-Length", "1"), ("content-length", "1")]), Some(400));
        assert_eq!(refused((1, 1), &[("Content-Length", "1"), ("Transfer-Encoding", "chunked")]), Some(400));
        assert_eq!(refused((1, 1), &[("Transfer-Encoding", "chunked")]), Some(411));
        assert_eq!(refused((1, 1), &[("Content-Length", "1"), ("Expect", "100-continue")]), Some(417));
        assert_eq!(refused((0, 9), &[]), Some(400));
    }

    #[test]
    fn a_connection_is_kept_by_the_rules_of_its_version() {
        let after = |header: Option<&str>, version| keep_alive(header.map(List::from), &version);
        assert_eq!(after(None, HTTPVersion(1, 1)), KeepAlive::Implicit);
        assert_eq!(after(None, HTTPVersion(1, 0)), KeepAlive::No);
        assert_eq!(after(Some("Keep-Alive"), HTTPVersion(1, 0)), KeepAlive::Explicit);
        assert_eq!(after(Some("close"), HTTPVersion(1, 1)), KeepAlive::No);
    }

    #[test]
    fn a_path_has_no_query_scheme_or_host() {
        for (target, expected) in
            [("/mood?x=/gif/", "/mood"), ("http://h:1/mood?", "/mood"), ("http://h", "/"), ("*", "*"), ("/#a", "/")]
        {
            assert_eq!(path(target), expected);
        }
    }

    proptest! {
        #[test]
        fn no_head_does_harm_and_a_body_that_would_block_is_refused(
            headers in proptest::collection::vec(("(?i)content-length|transfer-encoding|expect|connection|[!-9;-~]{1,20}", "[ -~]{0,24}"), 0..8),
            target in "[ -~]{0,40}",
            minor in 0u8..3,
        ) {
            let headers: Vec<_> = headers.iter().filter_map(|(n, v)| Header::from_bytes(n.as_str(), v.as_str()).ok()).collect();
            let head = Head::read(&headers, &target, &HTTPVersion(1, minor));
            prop_assert!(head.unread_body.is_none() || head.refusal.is_some());
            prop_assert!(!path(&target).contains('?'));
        }

        #[test]
        fn a_valid_id_never_needs_escaping(id in "[ -~]{0,4}") {
            let quoted = format!("\"{id}\"");
            prop_assert!(!is_valid_id(&id) || serde_json::to_string(&id).unwrap() == quoted);
        }
    }
}
