//! Draining: what was received is answered, and the end comes soon.

mod support;

use rstest::rstest;
use std::io::{BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use support::{Mood, Redis, binary, read_answer, wait_for};

#[rstest]
fn a_signal_drains_and_the_exit_is_clean(#[values(libc::SIGTERM, libc::SIGINT)] signal: i32) {
    let mut mood = Mood::with(&[("DRAIN_MS", "1000")]);
    let mut idle: Vec<_> = (0..20).map(|_| BufReader::new(mood.connect())).collect();
    for stream in &mut idle {
        stream.get_mut().write_all(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert_eq!(read_answer(stream).unwrap().0, 200);
    }
    let began = Instant::now();
    mood.signal(signal);
    wait_for("/readyz turns 503", || (mood.get("/readyz").status == 503).then_some(()));
    let answer = mood.get("/mood");
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    assert_eq!(mood.get("/livez").status, 200);
    let status = mood.wait();
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn every_request_that_was_sent_before_the_end_is_answered() {
    let mut mood = Mood::with(&[("DRAIN_MS", "500")]);
    let address = mood.address;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                let mut answered = 0;
                // As a proxy does: a connection that says it closes is not used again.
                while let Ok(stream) = std::net::TcpStream::connect(address) {
                    let mut stream = BufReader::new(stream);
                    for _ in 0..50 {
                        if stream.get_mut().write_all(b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n").is_err() {
                            return answered;
                        }
                        match read_answer(&mut stream) {
                            Ok((status, _)) => assert_eq!(status, 200),
                            // The process is gone: connections that arrive in its last moment are refused or reset.
                            Err(_) => return answered,
                        }
                        answered += 1;
                    }
                }
                answered
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    mood.signal(libc::SIGTERM);
    assert_eq!(mood.wait().code(), Some(0));
    let answered: i32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(answered > 100, "{answered}");
    wait_for("the end of the log", || (mood.log_has("stopped") == 1).then_some(()));
    assert!(mood.log_has("\"status\":200") as i32 >= answered, "{answered} answers, fewer lines");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut mood = Mood::with(&[("DRAIN_MS", "1500")]);
    mood.signal(libc::SIGTERM);
    wait_for("it drains", || (mood.log_has("draining") > 0).then_some(()));
    assert_eq!(mood.ends_within(Duration::from_millis(500), libc::SIGINT), Some(130));
}

#[test]
fn many_slow_requests_do_not_delay_the_exit() {
    let redis = Redis::with(&["--enable-debug-command", "yes"]);
    let mut mood = Mood::with(&[("REDIS_URL", &redis.url()), ("REDIS_TIMEOUT_MS", "100")]);
    assert_eq!(mood.request("POST", "/refresh", &[]).status, 200);
    let mut other = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    thread::spawn(move || while redis::cmd("DEBUG").arg("SLEEP").arg("0.02").exec(&mut other).is_ok() {});
    // Each waits twice for Redis: four seconds in all.
    let mut clients: Vec<_> = (0..100).map(|_| mood.connect()).collect();
    for client in &mut clients {
        client.write_all(b"POST /refresh HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
    thread::sleep(Duration::from_millis(200));
    assert_eq!(mood.ends_within(Duration::from_secs(2), libc::SIGTERM), Some(0));
}

#[test]
fn it_works_as_process_1() {
    // A PID namespace of its own makes it process 1, for which the kernel has no default actions.
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]).arg(binary());
    if Command::new("unshare").args(["--pid", "--fork", "true"]).status().map_or(true, |status| !status.success()) {
        // The stack's tests run it as process 1 of a container in any case.
        eprintln!("SKIPPED it_works_as_process_1: no right to make a PID namespace");
        return;
    }
    let mut parent = unshare.env_clear().env("LISTEN_ADDR", "127.0.0.1:0").env("LOG_LEVEL", "error").spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", parent.id());
    let child: i32 = wait_for("process 1 runs", || {
        let child = std::fs::read_to_string(&children).ok()?.trim().parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        // It blocks signals first of all; by its second thread it surely has.
        let threads = std::fs::read_dir(format!("/proc/{child}/task")).ok()?.count();
        (name.trim() == "mood" && threads > 3).then_some(child)
    });
    // SAFETY: sends a signal to a grandchild whose parent waits for it.
    unsafe { libc::kill(child, libc::SIGTERM) };
    let began = Instant::now();
    let status = parent.wait().unwrap();
    assert!(status.code() == Some(0) && status.signal().is_none(), "{status:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_accept_that_fails_for_good_is_fatal_and_says_so() {
    let mut mood = Mood::start();
    let limit = libc::rlimit { rlim_cur: 3, rlim_max: 3 };
    // SAFETY: sets a limit of a child that has not been waited for: it may open no further file.
    unsafe { libc::prlimit(mood.pid(), libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
    let _client = mood.connect();
    assert_eq!(mood.wait().code(), Some(1));
    wait_for("the end of the log", || (mood.log_has("stopped") == 1).then_some(()));
    assert!(mood.log_has("connections can no longer be accepted") == 1 && mood.log_has("draining") >= 1);
}
