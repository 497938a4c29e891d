//! The HTTP contract, row by row.

mod support;

use rstest::rstest;
use support::Mood;

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

#[rstest]
#[case("GET", "/", 200, "application/json")]
#[case("GET", "/?html=1", 200, "application/json")]
#[case("GET", "/mood", 200, "application/json")]
#[case("GET", "/mood?a=/refresh#x", 200, "application/json")]
#[case("GET", "/health", 200, "application/json")]
#[case("GET", "/livez", 200, "application/json")]
#[case("GET", "/readyz", 200, "application/json")]
#[case("GET", "/metrics", 200, "text/plain; version=0.0.4; charset=utf-8")]
#[case("GET", "/version", 200, "application/json")]
#[case("POST", "/refresh", 200, "application/json")]
#[case("GET", "/nothing", 404, "application/json")]
#[case("POST", "/nothing", 404, "application/json")]
#[case("GET", "/mood/", 404, "application/json")]
#[case("GET", "/gif/sunny.gif", 404, "application/json")]
#[case("GET", "/gif/nobody-00000000.gif", 404, "application/json")]
#[case("GET", "/refresh", 405, "application/json")]
#[case("POST", "/mood", 405, "application/json")]
#[case("DELETE", "/", 405, "application/json")]
#[case("OPTIONS", "/health", 405, "application/json")]
fn each_row_of_the_table(#[case] method: &str, #[case] path: &str, #[case] status: u16, #[case] content_type: &str) {
    let mood = Mood::start();
    let answer = mood.request(method, path, &[]);
    assert_eq!(answer.status, status);
    assert_eq!(answer.header("content-type"), content_type);
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(!answer.header("x-served-by").is_empty() && answer.header("x-request-id").len() == 32);
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    if status >= 400 {
        assert!(answer.json()["error"].is_string());
    }
    if status == 405 {
        assert_eq!(answer.header("allow"), if path == "/refresh" { "POST" } else { "GET, HEAD" });
    }
}

#[test]
fn a_mood_has_these_fields_in_this_order() {
    let mood = Mood::start();
    let answer = mood.get("/mood");
    let text = answer.text();
    let places: Vec<_> = ["date", "mood", "emoji", "message", "gif", "refreshed"]
        .iter()
        .map(|field| text.find(&format!("\"{field}\":")).unwrap_or_else(|| panic!("{field} in {text}")))
        .collect();
    assert!(places.is_sorted());
    assert_eq!(answer.json()["refreshed"], 0);
    assert_eq!(answer.header("cache-control"), "no-cache");
    assert_eq!(mood.get("/").body, answer.body);
    assert_eq!(mood.get("/version").json()["name"], "mood");
    assert_eq!(mood.get("/health").text(), r#"{"status":"ok","redis":"embedded"}"#);
}

#[rstest]
#[case("/", "*/*")]
#[case("/", BROWSER)]
#[case("/mood", "*/*")]
#[case("/health", "*/*")]
#[case("/metrics", "*/*")]
#[case("/version", "*/*")]
#[case("/nothing", "*/*")]
fn head_has_the_headers_of_get_and_no_body(#[case] path: &str, #[case] accept: &str) {
    let mood = Mood::start();
    mood.get("/");
    let headers = |method| {
        let answer = mood.request(method, path, &[("Accept", accept), ("X-Request-Id", "same")]);
        let varying = ["date", "content-length"];
        let headers: Vec<_> = answer.headers.into_iter().filter(|(name, _)| !varying.contains(&&**name)).collect();
        (answer.status, headers, answer.body.len())
    };
    let (get, head) = (headers("GET"), headers("HEAD"));
    assert_eq!((get.0, get.1), (head.0, head.1));
    assert_eq!(head.2, 0);
}

#[test]
fn a_known_mood_or_gif_is_not_sent_again() {
    let mood = Mood::start();
    let gif = mood.get("/mood").json()["gif"].as_str().unwrap().to_owned();
    for (path, accept) in [("/mood", "*/*"), ("/", "*/*"), ("/", BROWSER), (gif.as_str(), "*/*")] {
        let etag = mood.request("GET", path, &[("Accept", accept)]).header("etag").to_owned();
        assert!(!etag.is_empty(), "{path}");
        for tags in [etag.clone(), format!("\"other\", {etag}"), "*".to_owned(), etag.replace("W/", "")] {
            let again = mood.request("GET", path, &[("Accept", accept), ("If-None-Match", &tags)]);
            assert_eq!((again.status, again.body.len()), (304, 0), "{path} {tags}");
            assert_eq!(again.header("etag"), etag);
        }
        let changed = mood.request("GET", path, &[("Accept", accept), ("If-None-Match", "\"other\"")]);
        assert_eq!(changed.status, 200);
    }
}

#[test]
fn several_lines_of_a_list_header_are_one_list() {
    let mood = Mood::start();
    let ask = |lines: &str| mood.raw(format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n").as_bytes());
    let etag = mood.get("/").header("etag").to_owned();
    for (lines, status) in [
        (format!("If-None-Match: {etag}\r\nIf-None-Match: \"a\"\r\n"), "304"),
        (format!("If-None-Match: \"a\"\r\nX: y\r\nif-none-match: \"b\", {etag}\r\n"), "304"),
        ("If-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\nX: *\r\n".to_owned(), "200"),
    ] {
        assert!(ask(&lines).starts_with(&format!("HTTP/1.1 {status} ")), "{lines}{}", ask(&lines));
    }
    for (lines, content_type) in [
        ("Accept: application/json;q=0.5\r\nAccept: text/html\r\n", "text/html; charset=utf-8"),
        ("Accept: text/html;q=0.5\r\nX: y\r\naccept: image/png\r\nACCEPT: application/json\r\n", "application/json"),
        ("Accept:\r\nAccept: text/html\r\n", "text/html; charset=utf-8"),
    ] {
        assert!(ask(lines).contains(&format!("\r\nContent-Type: {content_type}\r\n")), "{lines}{}", ask(lines));
    }
    for lines in ["Connection: keep-alive\r\nConnection: close\r\n", "Connection: x\r\nConnection: y, Close\r\n"] {
        assert!(ask(lines).contains("\r\nConnection: close\r\n"), "{lines}{}", ask(lines));
    }
}

#[test]
fn the_cache_is_named_on_mood_routes_alone() {
    let mood = Mood::start();
    assert_eq!(mood.get("/mood").header("x-cache"), "MISS");
    assert_eq!(mood.get("/mood").header("x-cache"), "HIT");
    assert_eq!(mood.get("/").header("x-cache"), "HIT");
    assert_eq!(mood.get("/health").header("x-cache"), "");
}

#[test]
fn a_sane_request_id_comes_back_and_any_other_is_replaced() {
    let mood = Mood::start();
    let id = |id: &str| mood.request("GET", "/mood", &[("X-Request-Id", id)]).header("x-request-id").to_owned();
    assert_eq!(id("abc-123_4.5:6"), "abc-123_4.5:6");
    for bad in ["with space", "quote\"", "", &"x".repeat(200), "{json}"] {
        let given = id(bad);
        assert!(given.len() == 32 && given != bad, "{bad}: {given}");
    }
}

#[test]
fn a_refresh_gives_another_mood_to_the_end_of_the_day() {
    let mood = Mood::start();
    let mut before = mood.get("/mood").json();
    for count in 1..=20 {
        let after = mood.request("POST", "/refresh", &[]).json();
        assert_ne!(after["mood"], before["mood"]);
        assert_eq!(after["refreshed"], count);
        assert_eq!(mood.get("/mood").json(), after);
        before = after;
    }
}

#[test]
fn a_browser_s_refresh_leads_back_to_the_page() {
    let mood = Mood::start();
    let answer = mood.request("POST", "/refresh", &[("Accept", BROWSER)]);
    assert_eq!((answer.status, answer.header("location")), (303, "/"));
    assert_eq!(mood.get("/mood").json()["refreshed"], 1);
}

#[test]
fn the_page_shows_the_mood_and_needs_nothing_from_elsewhere() {
    let mood = Mood::start();
    let json = mood.get("/mood").json();
    let answer = mood.request("GET", "/", &[("Accept", BROWSER)]);
    let page = answer.text();
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(answer.header("vary"), "Accept");
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("img-src 'self'"), "{policy}");
    for field in ["mood", "emoji", "message", "gif", "date"] {
        assert!(page.contains(json[field].as_str().unwrap()), "{field}");
    }
    assert!(page.contains(answer.header("x-served-by")) && page.contains("from the cache (hit)"));
    assert!(page.contains(r#"<form method="post" action="/refresh">"#));
    assert!(page.contains("prefers-reduced-motion") && page.contains("prefers-color-scheme: dark"));
    assert!(page.contains("alt=\"A ") && page.contains("<html lang=\"en\">") && page.contains("width=device-width"));
}
