//! The good clients are all served, however many come at once (tiny_http alone leaves some waiting for ever).

mod support;

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use support::{Mood, read_answer, read_whole_answer};

/// Opens `count` connections at once, keeps them all, sends on each after `pause`, and gives the slowest answer.
fn slowest_of(mood: &Mood, count: usize, pause: Duration) -> Duration {
    let mut streams: Vec<_> = (0..count).map(|_| BufReader::new(mood.connect())).collect();
    thread::sleep(pause);
    let began = Instant::now();
    for stream in &mut streams {
        stream.get_mut().write_all(b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    }
    for stream in &mut streams {
        assert_eq!(read_answer(stream).unwrap().0, 200);
    }
    began.elapsed()
}

#[test]
fn of_100_connections_opened_at_once_each_is_answered_within_100_ms() {
    let mood = Mood::start();
    let mut slow = Vec::new();
    for round in 0..10 {
        for pause in [0, 30, 300] {
            let slowest = slowest_of(&mood, 100, Duration::from_millis(pause));
            if slowest > Duration::from_millis(100) {
                slow.push((round, pause, slowest));
            }
        }
    }
    // A starved connection would wait for ever; a busy machine may be late once.
    assert!(slow.len() <= 1, "{slow:?}");
}

#[test]
fn connections_that_race_from_many_threads_are_all_answered() {
    let mood = Mood::start();
    for _ in 0..10 {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..32)
                .map(|_| {
                    scope.spawn(|| {
                        let began = Instant::now();
                        let mut stream = BufReader::new(mood.connect());
                        stream.get_mut().write_all(b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
                        assert_eq!(read_answer(&mut stream).unwrap().0, 200);
                        (began.elapsed(), stream)
                    })
                })
                .collect();
            let answers: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
            let slowest = answers.iter().map(|(took, _)| *took).max().unwrap();
            assert!(slowest < Duration::from_millis(500), "{slowest:?}");
        });
    }
}

#[test]
fn an_idle_connection_is_kept_for_its_time_and_then_closed() {
    let mood = Mood::with(&[("IDLE_TIMEOUT_S", "2")]);
    let mut stream = BufReader::new(mood.connect());
    let mut ask = || -> std::io::Result<u16> {
        stream.get_mut().write_all(b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n")?;
        Ok(read_answer(&mut stream)?.0)
    };
    for _ in 0..3 {
        assert_eq!(ask().unwrap(), 200);
        thread::sleep(Duration::from_millis(1200));
    }
    thread::sleep(Duration::from_millis(2500));
    assert!(ask().is_err());
}

#[test]
fn http_1_0_and_connection_close_are_honoured() {
    let mood = Mood::start();
    let answer = mood.raw(b"GET /mood HTTP/1.0\r\n\r\n");
    assert!(answer.contains("Connection: close"), "{answer}");
    let answer = mood.raw(b"GET /mood HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert!(answer.contains("Connection: close"), "{answer}");
    let mut kept = BufReader::new(TcpStream::connect(mood.address).unwrap());
    for _ in 0..2 {
        kept.get_mut().write_all(b"GET /mood HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut kept).unwrap().0, 200);
    }
}

#[test]
fn an_old_connection_is_ended_with_an_answer_and_a_young_one_is_kept() {
    let mood = Mood::with(&[("MAX_CONNECTION_AGE_S", "2")]);
    let began = Instant::now();
    let mut old = BufReader::new(mood.connect());
    let ask = |stream: &mut BufReader<TcpStream>| {
        stream.get_mut().write_all(b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let (status, headers, _) = read_whole_answer(stream).unwrap();
        assert_eq!(status, 200);
        headers.iter().any(|header| header == "connection: close")
    };
    while !ask(&mut old) {
        assert!(began.elapsed() < Duration::from_secs(5), "it is kept");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(!ask(&mut BufReader::new(mood.connect())));
    // Who does not leave is served all the same.
    assert!(ask(&mut old));
}

#[test]
fn without_a_limit_no_connection_is_too_old() {
    let mood = Mood::start();
    let mut stream = BufReader::new(mood.connect());
    for _ in 0..30 {
        stream.get_mut().write_all(b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let (_, headers, _) = read_whole_answer(&mut stream).unwrap();
        assert!(headers.iter().all(|header| !header.starts_with("connection:")), "{headers:?}");
        thread::sleep(Duration::from_millis(100));
    }
}
