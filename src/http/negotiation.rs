//! Which representation a client gets: Accept and If-None-Match. No I/O.

use super::head::List;
use super::reply::{Body, Reply};
use super::request::Request;

/// 200, or 304 if the client's copy is current (RFC 9110, section 13.1.2: the weak comparison). A body is built only if it is
/// sent.
pub fn conditional(request: &Request, etag: String, content_type: &'static str, body: impl FnOnce() -> Body) -> Reply {
    let is_known = request.head.if_none_match.is_some_and(|tags| {
        let opaque = etag.trim_start_matches("W/");
        tags.members().any(|tag| tag == "*" || tag.trim_start_matches("W/") == opaque)
    });
    let (status, body) = if is_known { (304, Body::Empty) } else { (200, body()) };
    Reply { etag: Some(etag), ..Reply::new(status, content_type, body) }
}

/// Whether `Accept` weighs text/html above JSON (RFC 9110, section 12.5.1). A client that takes anything, as curl
/// does, gets JSON.
pub fn prefers_html(accept: Option<List>) -> bool {
    accept.is_some_and(|accept| weight(accept, "text", "html") > weight(accept, "application", "json"))
}

/// The weight, 0 to 1000, that `accept` gives to a media type: that of the most specific range that covers it.
fn weight(accept: List, kind: &str, subtype: &str) -> u32 {
    let mut best = (0, 0);
    for range in accept.members() {
        let mut parts = range.split(';').map(str::trim);
        let Some((range_kind, range_subtype)) = parts.next().and_then(|range| range.split_once('/')) else { continue };
        let specificity = match () {
            () if range_kind.eq_ignore_ascii_case(kind) && range_subtype.eq_ignore_ascii_case(subtype) => 3,
            () if range_kind.eq_ignore_ascii_case(kind) && range_subtype == "*" => 2,
            () if range_kind == "*" && range_subtype == "*" => 1,
            () => continue,
        };
        let q = parts.find_map(|parameter| parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")));
        let weight = q.map_or(1000, thousandths);
        best = best.max((specificity, weight));
    }
    best.1
}

/// A weight such as `0.25` (RFC 9110, section 12.4.2), at most 1; what is not a number weighs nothing.
fn thousandths(q: &str) -> u32 {
    let (whole, fraction) = q.split_once('.').unwrap_or((q, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    if whole.bytes().any(|digit| digit != b'0') {
        return 1000;
    }
    fraction.bytes().chain(*b"000").take(3).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::damaged_text;
    use proptest::prelude::*;

    #[test]
    fn html_goes_to_those_who_prefer_it() {
        let chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for accept in [chrome, "text/html", "TEXT/HTML", "text/*", "application/json;q=0.5, text/html;q=0.6"] {
            assert!(prefers_html(Some(accept.into())), "{accept}");
        }
        for accept in
            ["*/*", "application/json", "text/html;q=0", "text/html;q=0.5,*/*", "", "nonsense", "text/html;q=x"]
        {
            assert!(!prefers_html(Some(accept.into())), "{accept}");
        }
        assert!(!prefers_html(None));
    }

    #[test]
    fn a_weight_is_read_in_thousandths() {
        for (q, expected) in [("1", 1000), ("0", 0), ("0.5", 500), ("0.123", 123), ("0.1239", 123), ("1.000", 1000)] {
            assert_eq!(thousandths(q), expected, "{q}");
        }
        for (q, expected) in [("", 0), (".5", 500), ("7", 1000), ("-1", 0), ("x", 0), ("0.x", 0), ("1e3", 0)] {
            assert_eq!(thousandths(q), expected, "{q}");
        }
    }

    proptest! {
        #[test]
        fn any_accept_header_is_weighed(random in ".*", near in damaged_text("accepts")) {
            for accept in [random, near] {
                prop_assert!(weight(accept.as_str().into(), "text", "html") <= 1000);
            }
        }
    }
}
