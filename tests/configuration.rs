//! Configuration by environment, and the command line.

mod support;

use mood::config::{Allowed::Text, VARIABLES, Variable};
use rstest::rstest;
use std::process::Output;
use std::time::{Duration, Instant};
use support::{Mood, wait_for};

fn run(environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Mood::command().envs(environment.iter().copied()).args(arguments).output().unwrap();
    let Output { status, stdout, stderr } = output;
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[rstest]
#[case("LISTEN_ADDR", "5000")]
#[case("LISTEN_ADDR", "localhost:http")]
#[case("REDIS_URL", "http://redis:6379")]
#[case("REDIS_URL", "rediss://redis:6379")]
#[case("REDIS_POOL_SIZE", "0")]
#[case("REDIS_TIMEOUT_MS", "1000")]
#[case("WORKERS", "many")]
#[case("WORKERS", "-1")]
#[case("MAX_CONNECTIONS", "1")]
#[case("IDLE_TIMEOUT_S", "0")]
#[case("REQUEST_TIMEOUT_S", "61")]
#[case("DRAIN_MS", "99999999999999999999999")]
#[case("LOG_LEVEL", "loud")]
#[case("MOOD_FAULTS", "yes")]
#[case("TZ", "Atlantis/Capital")]
#[case("TZ", "CET-1CEST,nonsense")]
fn a_wrong_value_stops_start_up_and_is_named(#[case] name: &str, #[case] value: &str) {
    let (code, stdout, stderr) = run(&[(name, value)], &[]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with(&format!("{name}={value:?} is not allowed: it must be ")), "{stderr}");
}

#[test]
fn all_wrong_values_are_named_together_and_no_password() {
    let wrong = [("WORKERS", "0"), ("LOG_LEVEL", "x"), ("TZ", "Nowhere"), ("REDIS_URL", "redis://:s3cret@host:port")];
    let (code, _, stderr) = run(&wrong, &[]);
    assert_eq!((code, stderr.lines().count()), (Some(2), 4), "{stderr}");
    assert!(!stderr.contains("s3cret") && stderr.contains("***"));
}

#[test]
fn a_port_in_use_is_said_in_one_line() {
    let mood = Mood::start();
    let (code, _, stderr) = run(&[("LISTEN_ADDR", &mood.address.to_string())], &[]);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1));
    assert!(stderr.contains(&mood.address.to_string()) && stderr.contains("in use"), "{stderr}");
}

#[rstest]
#[case("UTC0")]
#[case("EST5EDT,M3.2.0,M11.1.0")]
#[case("<+0545>-5:45")]
#[case("IST-2IDT,M3.4.4/26,M10.5.0")]
#[case("Europe/Berlin")]
#[case(":Europe/Berlin")]
#[case("US/Pacific")]
#[case("Etc/GMT+5")]
fn a_zone_that_is_understood_starts(#[case] zone: &str) {
    assert_eq!(Mood::with(&[("TZ", zone)]).get("/mood").status, 200);
}

#[test]
fn the_date_is_that_of_the_named_zone() {
    // The two are 26 hours apart, so their dates always differ.
    let date = |zone| Mood::with(&[("TZ", zone)]).get("/mood").json()["date"].as_str().unwrap().to_owned();
    let (behind, ahead) = (date("Etc/GMT+12"), date("Pacific/Kiritimati"));
    assert!(behind < ahead, "{behind} {ahead}");
}

#[test]
fn an_unknown_zone_is_rejected_with_the_accepted_forms() {
    let (code, _, stderr) = run(&[("TZ", "Europe/Nowhere")], &[]);
    assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{stderr}");
    for form in ["IANA name", "Europe/Berlin", "POSIX string", "CET-1CEST,M3.5.0,M10.5.0/3"] {
        assert!(stderr.contains(form), "{stderr}");
    }
}

/// The image has no zone files. A namespace where their folder is empty stands for the image.
#[test]
fn a_name_is_understood_without_zone_files() {
    const HIDE: &str = "test ! -d /usr/share/zoneinfo || mount -t tmpfs none /usr/share/zoneinfo";
    let within = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &format!("{HIDE} && {script}")]);
        command.output().ok()
    };
    if !within("true").is_some_and(|output| output.status.success()) {
        eprintln!("skipped: this machine does not allow a mount namespace");
        return;
    }
    // WORKERS=0 ends the process; a zone that is not understood would be named as well.
    let output = within(&format!("TZ=Europe/Berlin WORKERS=0 {}", support::binary().display())).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("WORKERS") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn it_listens_where_it_is_told_also_on_ipv6() {
    assert_eq!(Mood::with(&[("LISTEN_ADDR", "[::1]:0")]).get("/mood").status, 200);
    assert_eq!(Mood::with(&[("LISTEN_ADDR", "0.0.0.0:0")]).get("/mood").status, 200);
}

#[test]
fn help_and_version_tell_what_a_user_needs() {
    let (code, help, _) = run(&[], &["--help"]);
    assert_eq!(code, Some(0));
    for word in ["healthcheck", "LISTEN_ADDR", "REDIS_URL", "WORKERS", "LOG_LEVEL", "TZ", "0.0.0.0:5000"] {
        assert!(help.contains(word), "{word}");
    }
    let (code, version, _) = run(&[], &["--version"]);
    assert!(code == Some(0) && version.starts_with(concat!("mood ", env!("CARGO_PKG_VERSION"))));
    let (code, _, stderr) = run(&[], &["--helpp"]);
    assert!(code == Some(2) && stderr.contains("--help"));
}

#[test]
fn healthcheck_asks_the_configured_port() {
    let mut mood = Mood::with(&[("DRAIN_MS", "1500")]);
    let address = mood.address.to_string();
    let check = || run(&[("LISTEN_ADDR", &address)], &["healthcheck"]).0;
    assert_eq!(check(), Some(0));
    mood.signal(libc::SIGTERM);
    wait_for("a draining service is not ready", || (check() == Some(1)).then_some(()));
    mood.wait();
    let began = Instant::now();
    assert_eq!(check(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn readme_has_the_same_table() {
    for Variable { name, default, allowed, .. } in &VARIABLES {
        let row = include_str!("../README.md").lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("README lacks {name}"));
        let has = |text: &str| row.contains(text);
        assert!(default.is_empty() || has(&format!("| `{default}` |")), "{row}");
        assert!(matches!(allowed, Text(_)) || has(&allowed.to_string()), "{row}");
    }
}
