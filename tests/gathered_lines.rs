//! Lines of requests are written together: soon, in order, and none is lost at the end.

mod support;

use std::io::{BufReader, Write};
use std::time::{Duration, Instant};
use support::{Mood, read_answer, wait_for, within};

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
