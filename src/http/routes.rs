//! Request → `Reply`: the route table and content negotiation. No I/O of its own.

use crate::http::faults::{Faults, Wanted};
use crate::http::head::List;
use crate::mood::entry::Entry;
use crate::mood::service::{Cache, Service};
use crate::mood::{catalogue as mood, page};
use crate::observability::metrics::{self, Metrics};
use crate::{build_info as build, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// What the routes need to answer.
pub struct App {
    pub service: Service,
    pub metrics: Arc<Metrics>,
    pub host: String,
    pub draining: AtomicBool,
    /// `None`: there is no such path.
    pub faults: Option<Faults>,
}

/// The day's mood as one batch of requests sees it: read once, after the last of them arrived.
#[derive(Default)]
pub struct BatchRead(Option<(Arc<Entry>, Cache)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Other,
}

impl Method {
    pub fn label(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Patch => "PATCH",
            Method::Other => "other",
        }
    }

    fn reads(self) -> bool {
        matches!(self, Method::Get | Method::Head)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    Root,
    Mood,
    Gif,
    Refresh,
    Health,
    Livez,
    Readyz,
    Metrics,
    Version,
    Faults,
    Unknown,
}

impl Route {
    pub fn of(path: &str) -> Route {
        match path {
            "/" => Route::Root,
            "/mood" => Route::Mood,
            "/refresh" => Route::Refresh,
            "/health" => Route::Health,
            "/livez" => Route::Livez,
            "/readyz" => Route::Readyz,
            "/metrics" => Route::Metrics,
            "/version" => Route::Version,
            "/faults" => Route::Faults,
            _ if path.starts_with("/gif/") => Route::Gif,
            _ => Route::Unknown,
        }
    }

    /// The label in metrics: the route's pattern, never a path from outside.
    pub fn pattern(self) -> &'static str {
        match self {
            Route::Root => "/",
            Route::Mood => "/mood",
            Route::Gif => "/gif/{name}",
            Route::Refresh => "/refresh",
            Route::Health => "/health",
            Route::Livez => "/livez",
            Route::Readyz => "/readyz",
            Route::Metrics => "/metrics",
            Route::Version => "/version",
            Route::Faults => "/faults",
            Route::Unknown => "other",
        }
    }

    /// Probes and scrapes come every few seconds from each observer; they are logged at debug.
    pub fn is_probe(self) -> bool {
        matches!(self, Route::Health | Route::Livez | Route::Readyz | Route::Metrics)
    }

    fn is_write(self) -> bool {
        matches!(self, Route::Refresh | Route::Faults)
    }

    fn allow(self) -> &'static str {
        if self.is_write() { "POST" } else { "GET, HEAD" }
    }
}

/// What decides the answer to a request.
pub struct Request<'a> {
    pub method: Method,
    pub path: &'a str,
    pub accept: Option<List<'a>>,
    pub if_none_match: Option<List<'a>>,
    /// What came of it up to 1 KiB, if the route reads one.
    pub body: &'a [u8],
}

/// An answer, before it becomes bytes, a log line and a metric.
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Body,
    pub cache: Option<Cache>,
    pub etag: Option<String>,
    /// Further headers, complete with their line ends.
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

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const NO_CACHE: &str = "Cache-Control: no-cache\r\nVary: Accept\r\n";
const NO_STORE: &str = "Cache-Control: no-store\r\n";

impl Reply {
    fn new(status: u16, content_type: &'static str, body: Body) -> Reply {
        Reply { status, content_type, body, cache: None, etag: None, headers: "" }
    }

    pub fn error(status: u16, error: &str) -> Reply {
        json(status, &[("error", error)])
    }

    fn with_headers(self, headers: &'static str) -> Reply {
        Reply { headers, ..self }
    }

    fn with_cache(self, cache: Cache) -> Reply {
        Reply { cache: Some(cache), ..self }
    }
}

impl App {
    /// What stands at a path.
    pub fn route_of(&self, path: &str) -> Route {
        match Route::of(path) {
            Route::Faults if self.faults.is_none() => Route::Unknown,
            route => route,
        }
    }

    /// Whether a request fails on purpose. Probes, scrapes and the faults' own path are exempt.
    pub fn fails(&self, route: Route) -> bool {
        let is_exempt = route.is_probe() || matches!(route, Route::Version | Route::Faults);
        !is_exempt && self.faults.as_ref().is_some_and(Faults::draw)
    }

    pub fn answer(&self, request: &Request, batch: &mut BatchRead) -> Reply {
        let route = self.route_of(request.path);
        let is_allowed = if route.is_write() { request.method == Method::Post } else { request.method.reads() };
        if !is_allowed && route != Route::Unknown {
            return Reply::error(405, "this path does not have that method").with_headers(match route.allow() {
                "POST" => "Allow: POST\r\n",
                _ => "Allow: GET, HEAD\r\n",
            });
        }
        match route {
            Route::Root if prefers_html(request.accept) => self.page(request, batch),
            Route::Root | Route::Mood => self.mood(request, batch),
            Route::Gif => self.gif(request),
            Route::Refresh => self.refresh(request, batch),
            Route::Health => self.health(),
            Route::Livez => Reply::new(200, JSON, Body::Text(r#"{"status":"ok"}"#)).with_headers(NO_STORE),
            Route::Readyz if self.draining.load(SeqCst) => {
                Reply::new(503, JSON, Body::Text(r#"{"status":"draining"}"#)).with_headers(NO_STORE)
            }
            Route::Readyz => Reply::new(200, JSON, Body::Text(r#"{"status":"ok"}"#)).with_headers(NO_STORE),
            Route::Metrics => {
                let is_faulty = self.faults.as_ref().is_some_and(Faults::is_active);
                self.metrics.faults_active.set(is_faulty.into());
                let text = self.metrics.render(self.service.connections());
                Reply::new(200, metrics::CONTENT_TYPE, Body::Bytes(text)).with_headers(NO_STORE)
            }
            Route::Version => version(),
            Route::Faults => self.set_faults(request.body),
            Route::Unknown => Reply::error(404, "there is nothing at this path"),
        }
    }

    fn today(&self, batch: &mut BatchRead) -> (Arc<Entry>, Cache) {
        let (entry, cache) = batch.0.get_or_insert_with(|| self.service.today()).clone();
        self.metrics.cache_request(cache.label());
        (entry, cache)
    }

    fn mood(&self, request: &Request, batch: &mut BatchRead) -> Reply {
        let (entry, cache) = self.today(batch);
        let etag = format!("\"{}-{}-{:08x}\"", entry.date, entry.refreshed, entry.mood.gif_version);
        conditional(request, etag, JSON, || Body::Entry(entry)).with_headers(NO_CACHE).with_cache(cache)
    }

    fn page(&self, request: &Request, batch: &mut BatchRead) -> Reply {
        let (entry, cache) = self.today(batch);
        // Weak: the page also says which replica served it, and two pages of one mood may differ in that.
        let etag =
            format!("W/\"{}-{}-{:08x}-{}\"", entry.date, entry.refreshed, entry.mood.gif_version, build::VERSION);
        let reply = conditional(request, etag, HTML, || Body::Bytes(page::render(&entry, &self.host, cache)));
        reply.with_headers(page::HEADERS).with_cache(cache)
    }

    fn gif(&self, request: &Request) -> Reply {
        const IMMUTABLE: &str = "Cache-Control: public, max-age=31536000, immutable\r\n";
        let Some((mood, is_still)) = gif_named(request.path) else {
            return Reply::error(404, "there is no GIF of this name");
        };
        let etag = format!("\"{}{}\"", mood.gif_name(), if is_still { "-still" } else { "" });
        let mut cache = None;
        let reply = conditional(request, etag, "image/gif", || {
            if is_still {
                return Body::Shared(self.service.still_gif(mood));
            }
            let (bytes, from) = self.service.gif(mood);
            self.metrics.cache_request(from.label());
            cache = Some(from);
            Body::Shared(bytes)
        });
        Reply { cache, headers: IMMUTABLE, ..reply }
    }

    fn refresh(&self, request: &Request, batch: &mut BatchRead) -> Reply {
        // Whoever comes after this one, also in the same batch, must see the new mood.
        batch.0 = None;
        match self.service.refresh() {
            Ok(_) if prefers_html(request.accept) => {
                let reply = Reply::new(303, HTML, Body::Empty).with_cache(Cache::Miss);
                reply.with_headers("Location: /\r\nCache-Control: no-store\r\n")
            }
            Ok(entry) => Reply::new(200, JSON, Body::Entry(entry)).with_headers(NO_STORE).with_cache(Cache::Miss),
            Err(error) => {
                let headers = "Retry-After: 2\r\nCache-Control: no-store\r\n";
                let reply = match prefers_html(request.accept) {
                    true => Reply::new(503, HTML, Body::Text(page::REFRESH_FAILED)),
                    false => Reply::error(503, &format!("the mood cannot be replaced now: {}", error.reason)),
                };
                reply.with_headers(headers).with_cache(Cache::Bypass)
            }
        }
    }

    fn set_faults(&self, body: &[u8]) -> Reply {
        match (Wanted::parse(body), &self.faults) {
            (Ok(wanted), Some(faults)) => {
                faults.set(wanted);
                Reply::new(200, JSON, Body::Text(r#"{"status":"ok"}"#)).with_headers(NO_STORE)
            }
            (Err(mistakes), _) => Reply::error(400, &mistakes),
            (Ok(_), None) => Reply::error(404, "there is nothing at this path"),
        }
    }

    fn health(&self) -> Reply {
        let (status, word, redis) = match self.service.store_state() {
            Ok(state) => (200, "ok", state.to_owned()),
            Err(error) => (503, "unavailable", error.reason),
        };
        json(status, &[("status", word), ("redis", &redis)]).with_headers(NO_STORE)
    }
}

fn version() -> Reply {
    json(
        200,
        &[("name", build::NAME), ("version", build::VERSION), ("commit", build::COMMIT), ("target", build::TARGET)],
    )
    // Another build may answer at the same place at any time.
    .with_headers("Cache-Control: no-cache\r\n")
}

/// A flat JSON object, its members in the order given.
fn json(status: u16, members: &[(&str, &str)]) -> Reply {
    Reply::new(status, JSON, Body::Bytes(json::object(members)))
}

/// The mood whose GIF a path names, and whether it is the still one. Compared as it came: what is percent-encoded or
/// has more slashes is not a name of ours.
fn gif_named(path: &str) -> Option<(&'static mood::Mood, bool)> {
    let name = path.strip_prefix("/gif/")?.strip_suffix(".gif")?;
    let (name, is_still) = name.strip_suffix("-still").map_or((name, false), |name| (name, true));
    let (slug, version) = name.split_once('-')?;
    let mood = mood::by_slug(slug)?;
    (format!("{:08x}", mood.gif_version) == version).then_some((mood, is_still))
}

/// 200, or 304 if the client's copy is current (RFC 9110, section 13.1.2: the weak comparison). A body is built only if it is
/// sent.
fn conditional(request: &Request, etag: String, content_type: &'static str, body: impl FnOnce() -> Body) -> Reply {
    let is_known = request.if_none_match.is_some_and(|tags| {
        let opaque = etag.trim_start_matches("W/");
        tags.members().any(|tag| tag == "*" || tag.trim_start_matches("W/") == opaque)
    });
    let (status, body) = if is_known { (304, Body::Empty) } else { (200, body()) };
    Reply { etag: Some(etag), ..Reply::new(status, content_type, body) }
}

/// Whether `Accept` weighs text/html above JSON (RFC 9110, section 12.5.1). A client that takes anything, as curl
/// does, gets JSON.
fn prefers_html(accept: Option<List>) -> bool {
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

    #[test]
    fn a_gif_is_found_by_its_exact_name_alone() {
        let mood = &mood::CATALOGUE[0];
        let name = mood.gif_name();
        assert_eq!(gif_named(&format!("/gif/{name}.gif")), Some((mood, false)));
        assert_eq!(gif_named(&format!("/gif/{name}-still.gif")), Some((mood, true)));
        for wrong in ["/gif/", "/gif/../sunny.gif", "/gif/%73unny.gif", "/gif/sunny.gif", "/gif/sunny-00000000.gif"] {
            assert_eq!(gif_named(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_route_table(random in ".*", near in damaged_text("targets")) {
            for path in [random, near] {
                prop_assert!(gif_named(&path).is_none());
                let _ = Route::of(&path).pattern();
            }
        }

        #[test]
        fn any_accept_header_is_weighed(random in ".*", near in damaged_text("accepts")) {
            for accept in [random, near] {
                prop_assert!(weight(accept.as_str().into(), "text", "html") <= 1000);
            }
        }
    }
}
