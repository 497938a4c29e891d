//! The log on stdout: lines of requests are written together, soon, in order, and none is lost at the end. A reader that
//! stalls delays neither a response nor the exit.

mod support;

use rstest::rstest;
use std::io::{BufReader, Write, pipe};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Mood, binary, read_answer, wait_for, within};

const REQUEST: &[u8] = b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n";
const LINE: &str = "\"msg\":\"request\"";

/// Asks `count` times, one after the other on one connection.
fn ask(mood: &Mood, count: usize) {
    let mut stream = BufReader::new(mood.connect());
    for _ in 0..count {
        stream.get_mut().write_all(REQUEST).unwrap();
        assert_eq!(read_answer(&mut stream).unwrap().0, 200);
    }
}

/// Calls of `write`, which sockets are not written by.
fn writes(mood: &Mood) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", mood.pid())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("syscw: ")).unwrap().parse().unwrap()
}

#[test]
fn many_lines_take_few_writes_and_come_soon() {
    let mood = Mood::start();
    ask(&mood, 1);
    wait_for("the first line", || (mood.log_has(LINE) == 1).then_some(()));
    let before = writes(&mood);
    let began = Instant::now();
    ask(&mood, 500);
    let flushes = began.elapsed().as_millis() as u64 / 100 + 2;
    within(Duration::from_millis(400), "all lines", || (mood.log_has(LINE) == 501).then_some(()));
    // One each 16 KB (a line has about 230 bytes), and one each 100 ms.
    let written = writes(&mood) - before;
    assert!(written <= 500 * 300 / 16_384 + flushes, "{written} writes");
    assert!(mood.get("/metrics").text().contains("\nmood_log_lines_dropped_total 0\n"));
}

#[test]
fn a_message_stands_after_the_lines_of_earlier_requests() {
    let mut mood = Mood::start();
    ask(&mood, 3);
    // An answer is sent a moment before its line is gathered; written it is a tenth of a second later.
    std::thread::sleep(Duration::from_millis(20));
    mood.signal(libc::SIGTERM);
    mood.wait();
    let place = |text: &str| mood.log().iter().rposition(|line| line.contains(text));
    wait_for("the last message", || place("\"msg\":\"stopped\""));
    assert_eq!(mood.log_has(LINE), 3);
    assert!(place(LINE) < place("\"msg\":\"draining\""), "{:#?}", mood.log());
}

#[test]
fn a_signal_loses_no_line() {
    let mut mood = Mood::with(&[("DRAIN_MS", "0")]);
    ask(&mood, 1000);
    mood.signal(libc::SIGTERM);
    mood.wait();
    wait_for("all lines", || (mood.log_has(LINE) == 1000).then_some(()));
}

#[test]
fn a_kill_loses_a_tenth_of_a_second_at_most() {
    let mut mood = Mood::start();
    ask(&mood, 100);
    std::thread::sleep(Duration::from_millis(300));
    mood.signal(libc::SIGKILL);
    mood.wait();
    wait_for("all lines", || (mood.log_has(LINE) == 100).then_some(()));
}

const DROPPED: &str = " log lines dropped while stdout was blocked";

/// More lines than a pipe and the buffer hold.
fn fill_stdout(mood: &Mood) {
    ask(mood, 3000);
}

/// Every line is either in the log or counted, and every line in the log is whole. Gives the number of dropped lines.
fn assert_accounted(mood: &Mood, requests: usize) -> usize {
    let dropped = wait_for("all lines", || {
        let log = mood.log();
        let message = log.iter().find(|line| line.contains(DROPPED))?;
        let dropped = message.split(DROPPED).next()?.rsplit('"').next()?.parse().ok()?;
        (mood.log_has(LINE) + dropped == requests).then_some(dropped)
    });
    assert_eq!(mood.log_has(DROPPED), 1);
    for line in mood.log() {
        serde_json::from_str::<serde_json::Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    dropped
}

#[rstest]
fn a_stalled_reader_delays_no_response_and_later_gets_the_number_of_dropped_lines(
    #[values(0, libc::O_NONBLOCK)] flags: i32,
) {
    let (reader, writer) = pipe().unwrap();
    // SAFETY: sets a flag of an open descriptor.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) };
    let mood = Mood::with_stdout(&[], writer);
    fill_stdout(&mood);
    assert!(mood.metric("mood_log_lines_dropped_total") > 1000.0);
    mood.read_log(reader);
    let dropped = assert_accounted(&mood, 3000);
    assert_eq!(mood.metric("mood_log_lines_dropped_total"), dropped as f64);
    ask(&mood, 10);
    wait_for("later lines", || (mood.log_has(LINE) + dropped == 3010).then_some(()));
}

#[test]
fn lines_of_requests_displace_no_message() {
    let (reader, writer) = pipe().unwrap();
    let mut mood = Mood::with_stdout(&[("DRAIN_MS", "1000")], writer);
    fill_stdout(&mood);
    mood.signal(libc::SIGTERM);
    wait_for("it drains", || (mood.get("/readyz").status == 503).then_some(()));
    mood.read_log(reader);
    assert_eq!(mood.wait().code(), Some(0));
    assert_accounted(&mood, 3000);
    for message in ["listening on", "draining", "stopped"] {
        wait_for(message, || (mood.log_has(message) == 1).then_some(()));
    }
}

#[rstest]
fn a_stalled_reader_does_not_delay_the_exit(#[values("0", "1500")] drain: &str) {
    let (_reader, writer) = pipe().unwrap();
    let mut mood = Mood::with_stdout(&[("DRAIN_MS", drain)], writer);
    fill_stdout(&mood);
    assert_eq!(mood.ends_within(Duration::from_secs(2), libc::SIGTERM), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once_while_the_reader_stalls() {
    let (_reader, writer) = pipe().unwrap();
    let mut mood = Mood::with_stdout(&[("DRAIN_MS", "1500")], writer);
    fill_stdout(&mood);
    mood.signal(libc::SIGTERM);
    wait_for("it drains", || (mood.get("/readyz").status == 503).then_some(()));
    assert_eq!(mood.ends_within(Duration::from_millis(500), libc::SIGTERM), Some(130));
}

#[test]
fn a_reader_that_is_gone_is_no_error() {
    let (reader, writer) = pipe().unwrap();
    let mut mood = Mood::with_stdout(&[], writer);
    drop(reader);
    ask(&mood, 1000);
    assert_eq!(mood.metric("mood_panics_total"), 0.0);
    mood.signal(libc::SIGTERM);
    assert_eq!(mood.wait().code(), Some(0));
}

#[test]
fn a_stop_right_after_the_start_loses_no_message() {
    let mut mood = Mood::with(&[("DRAIN_MS", "0")]);
    mood.signal(libc::SIGTERM);
    assert_eq!(mood.wait().code(), Some(0));
    for message in ["listening on", "draining", "stopped"] {
        wait_for(message, || (mood.log_has(message) == 1).then_some(()));
    }
}

#[test]
fn a_start_that_fails_writes_its_messages_first() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100 && exec \"$0\""]).arg(binary());
    command.env("LISTEN_ADDR", taken.local_addr().unwrap().to_string());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("the limit of 100 open files"));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("cannot listen on"));
}
