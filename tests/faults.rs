//! Faults on purpose: off by default, wrong values named, probes spared, over by themselves.

mod support;

use rstest::rstest;
use std::time::Duration;
use support::Mood;

fn faulty() -> Mood {
    Mood::with(&[("MOOD_FAULTS", "on")])
}

fn ask(mood: &Mood, body: &str) -> String {
    mood.raw(format!("POST /faults HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

#[test]
fn there_is_no_such_path_unless_wanted() {
    let mood = Mood::start();
    assert!(ask(&mood, r#"{"error_rate":1}"#).starts_with("HTTP/1.1 404 "));
    assert_eq!(mood.get("/faults").status, 404);
    assert_eq!(mood.get("/mood").status, 200);
}

#[rstest]
#[case(r#"{"error_rate":2}"#, "error_rate may be from 0 to 1")]
#[case(r#"{"error_rate":2,"for_seconds":0}"#, "error_rate may be from 0 to 1; for_seconds may be from 1 to 3600")]
#[case(r#"{"latency_ms":1}"#, "unknown field `latency_ms`")]
#[case("nonsense", "JSON")]
fn wrong_values_get_a_400_that_names_them(#[case] body: &str, #[case] named: &str) {
    let mood = faulty();
    let answer = ask(&mood, body);
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n") && answer.contains(named), "{answer}");
    assert_eq!(mood.get("/mood").status, 200);
    assert_eq!(mood.get("/faults").status, 405);
}

#[test]
fn errors_spare_probes_show_in_metrics_and_log_and_end_by_themselves() {
    let mood = faulty();
    assert!(mood.get("/metrics").text().contains("\nmood_faults_active 0\n"));
    assert!(ask(&mood, r#"{"error_rate":1,"for_seconds":1}"#).starts_with("HTTP/1.1 200 "));
    assert_eq!(mood.get("/mood").status, 500);
    assert_eq!(mood.request("POST", "/refresh", &[]).status, 500);
    for probe in ["/health", "/livez", "/readyz", "/metrics", "/version"] {
        assert_eq!(mood.get(probe).status, 200, "{probe}");
    }
    assert!(mood.get("/metrics").text().contains("\nmood_faults_active 1\n"));
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(mood.get("/mood").status, 200);
    assert!(mood.get("/metrics").text().contains("\nmood_faults_active 0\n"));
    support::wait_for("the log tells", || {
        (mood.log_has("faults on purpose: error_rate 1 for 1 s") == 1 && mood.log_has("faults ended") == 1)
            .then_some(())
    });
}
