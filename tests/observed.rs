//! Logs and metrics.

mod support;

use rstest::rstest;
use support::{Mood, Redis, wait_for};

fn lines(mood: &Mood, count: usize) -> Vec<serde_json::Value> {
    wait_for("log lines", || (mood.log_has("\"msg\":\"request\"") >= count).then_some(()));
    let lines = mood.log();
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn request_line(mood: &Mood) -> serde_json::Value {
    lines(mood, 1).into_iter().rfind(|line| line["msg"] == "request").unwrap()
}

#[test]
fn a_request_is_one_line_with_all_that_matters() {
    let mood = Mood::start();
    let headers = [("X-Request-Id", "id-1"), ("X-Forwarded-For", "203.0.113.9, 10.0.0.1")];
    let answer = mood.request("GET", "/mood?secret=1", &headers);
    let line = request_line(&mood);
    assert_eq!(line["level"], "info");
    assert_eq!((&line["method"], &line["path"], &line["status"]), (&"GET".into(), &"/mood".into(), &200.into()));
    assert_eq!((&line["cache"], &line["request_id"]), (&"miss".into(), &"id-1".into()));
    assert_eq!((&line["remote"], &line["bytes"]), (&"203.0.113.9".into(), &answer.body.len().into()));
    assert_eq!(line["host"], answer.header("x-served-by"));
    assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
    let ts = line["ts"].as_str().unwrap();
    assert!(
        chrono::DateTime::parse_from_rfc3339(ts).is_ok() && ts.len() == "2026-11-24T05:45:12.123456Z".len(),
        "{ts}"
    );
}

#[test]
fn probes_and_scrapes_are_logged_at_debug() {
    let probes = ["/health", "/livez", "/readyz", "/metrics"];
    for (level, expected) in [("info", 1), ("debug", 5), ("error", 0)] {
        let mood = Mood::with(&[("LOG_LEVEL", level)]);
        probes.iter().for_each(|path| drop(mood.get(path)));
        mood.get("/mood");
        if expected > 0 {
            lines(&mood, expected);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(mood.log_has("\"msg\":\"request\""), expected, "{level}");
    }
}

#[rstest]
#[case("GET /a\"b\\c\u{7f} HTTP/1.1\r\nHost: x\r\n\r\n")]
#[case("GET /%0a{\"level\":\"error\"} HTTP/1.1\r\nHost: x\r\n\r\n")]
#[case("GET /x\n{\"forged\":1} HTTP/1.1\r\nHost: x\r\n\r\n")]
#[case("GET /\u{1b}[31m HTTP/1.1\r\nHost: x\r\n\r\n")]
#[case("GET /mood HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\",\"forged\":\"1\r\n\r\n")]
#[case("GET /mood HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\",\"forged\":\"\r\n\r\n")]
#[case("GET /mood HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\n{\"forged\":1}\r\n\r\n")]
fn a_hostile_client_cannot_break_or_forge_a_line(#[case] request: &str) {
    let mood = Mood::start();
    mood.raw(request.as_bytes());
    mood.get("/mood");
    for line in lines(&mood, 1) {
        let object = line.as_object().unwrap();
        assert!(object.contains_key("ts") && object.contains_key("level") && !object.contains_key("forged"), "{line}");
        assert!(line["level"] == "info" || line["level"] == "warn", "{line}");
    }
}

#[test]
fn every_metric_is_there_under_its_name_and_labels() {
    let redis = Redis::start();
    let mood = Mood::with_redis(&redis);
    mood.get("/");
    let served_by = mood.get("/nothing/at/all").header("X-Served-By").to_owned();
    mood.raw(b"BREW /mood HTTP/1.1\r\nHost: x\r\n\r\n");
    let refreshed = mood.request("POST", "/refresh", &[]).json();
    let slug = refreshed["mood"].as_str().unwrap().to_lowercase();
    let date = refreshed["date"].as_str().unwrap();
    let text = mood.get("/metrics").text();
    for series in [
        "http_requests_total{method=\"GET\",path=\"/\",status=\"200\"} 1",
        "http_requests_total{method=\"GET\",path=\"other\",status=\"404\"} 1",
        "http_requests_total{method=\"other\",path=\"/mood\",status=\"405\"} 1",
        "http_request_latency_seconds_bucket{method=\"GET\",path=\"/\",le=\"0.00005\"}",
        "http_request_latency_seconds_bucket{method=\"GET\",path=\"/\",le=\"0.025\"} 1",
        "http_request_latency_seconds_bucket{method=\"GET\",path=\"/\",le=\"1\"} 1",
        // The type is written by way of Debug, which the image is built with as little of as can be.
        "# TYPE http_requests_total counter",
        "# TYPE http_request_latency_seconds histogram",
        "# TYPE mood_info gauge",
        "http_requests_in_flight 1",
        "mood_cache_requests_total{result=\"miss\"} 1",
        "mood_cache_requests_total{result=\"bypass\"} 0",
        "mood_refreshes_total 1",
        &format!("mood_info{{date=\"{date}\",mood=\"{slug}\"}} 1"),
        "mood_answered_timestamp_seconds 1",
        &format!("mood_start_time_seconds{{host=\"{served_by}\"}} 1"),
        "redis_pool_connections{state=\"idle\"}",
        "redis_pool_connections{state=\"in_use\"}",
        "redis_errors_total{kind=\"timeout\"} 0",
        "redis_errors_total{kind=\"busy\"} 0",
        "mood_log_lines_dropped_total 0",
        "mood_build_info{commit=",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(text.lines().any(|line| line.starts_with(series)), "{series} in\n{text}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with("mood_info{")).count(), 1);
    assert!(!text.contains("/nothing/at/all") && !text.contains("BREW"));
}
