//! The route table. A row decides everything that differs between routes: metrics label, methods, logging, handler.

use super::app::{App, BatchRead};
use super::reply::Reply;
use super::request::Request;
use super::{faults, handlers};

pub struct Route {
    /// A path. `{name}` at its end stands for any text. It is also the label in metrics: those never contain a client's text.
    pub pattern: &'static str,
    pub methods: Methods,
    pub audience: Audience,
    pub handler: Handler,
}

pub type Handler = fn(&App, &Request, &mut BatchRead) -> Reply;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Methods {
    /// GET and HEAD.
    Read,
    /// POST. The worker executes these requests in the order of their connection, and reads their bodies.
    Write,
    Any,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    User,
    /// Exempt from injected faults.
    Operator,
    /// Also logged only at debug: every observer repeats these requests every few seconds.
    Probe,
}

use Audience::{Operator, Probe, User};
use Methods::{Any, Read, Write};

static ROUTES: [Route; 10] = [
    route("/", Read, User, handlers::root),
    route("/mood", Read, User, handlers::mood),
    route("/gif/{name}", Read, User, handlers::gif),
    route("/refresh", Write, User, handlers::refresh),
    route("/health", Read, Probe, handlers::health),
    route("/livez", Read, Probe, handlers::livez),
    route("/readyz", Read, Probe, handlers::readyz),
    route("/metrics", Read, Probe, handlers::metrics),
    route("/version", Read, Operator, handlers::version),
    route(faults::PATH, Write, Operator, faults::set),
];

/// For every other path.
static UNKNOWN: Route = route("other", Any, User, |_, _, _| Reply::not_found());

const fn route(pattern: &'static str, methods: Methods, audience: Audience, handler: Handler) -> Route {
    Route { pattern, methods, audience, handler }
}

/// `with_faults`: whether the path that controls injected faults exists.
pub fn find(path: &str, with_faults: bool) -> &'static Route {
    let route = ROUTES.iter().find(|route| route.matches(path));
    route.filter(|route| with_faults || route.pattern != faults::PATH).unwrap_or(&UNKNOWN)
}

impl Route {
    fn matches(&self, path: &str) -> bool {
        match self.pattern.strip_suffix("{name}") {
            Some(prefix) => path.starts_with(prefix),
            None => path == self.pattern,
        }
    }

    pub fn is_probe(&self) -> bool {
        self.audience == Probe
    }

    /// Whether injected faults apply.
    pub fn may_fail(&self) -> bool {
        self.audience == User
    }
}

impl Methods {
    pub fn contains(self, method: &str) -> bool {
        match self {
            Read => matches!(method, "GET" | "HEAD"),
            Write => method == "POST",
            Any => true,
        }
    }

    pub fn not_allowed(self) -> Reply {
        let allow = if self == Write { "Allow: POST\r\n" } else { "Allow: GET, HEAD\r\n" };
        Reply::error(405, "this path does not have that method").with_headers(allow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_its_own_route_or_none() {
        for (path, pattern) in
            [("/", "/"), ("/gif/x", "/gif/{name}"), ("/gif/", "/gif/{name}"), ("/gif", "other"), ("/mood/", "other")]
        {
            assert_eq!(find(path, true).pattern, pattern, "{path}");
        }
        assert_eq!((find("/faults", true).pattern, find("/faults", false).pattern), ("/faults", "other"));
    }
}
