//! The good clients are all served, however many come at once (tiny_http alone leaves some waiting for ever).

mod support;

use rstest::rstest;
use socket2::{Domain, Socket, Type};
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use support::{Mood, allow_open_files, read_answer, read_whole_answer, wait_for, within};

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

/// A connection from `from`, to port `port` of an address of this machine.
fn connect_between(from: SocketAddr, to: [u8; 4], port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect_timeout(&SocketAddr::from((to, port)).into(), Duration::from_secs(5)).unwrap();
    TcpStream::from(socket)
}

/// A port of 127.0.0.1 that no other program gets while the socket exists.
fn own_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// Connections that have had an answer and are idle since.
fn idle(mood: &Mood, count: usize) -> Vec<BufReader<TcpStream>> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = BufReader::new(mood.connect());
        stream.get_mut().write_all(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut stream).unwrap().0, 200);
        streams.push(stream);
    }
    streams
}

#[rstest]
#[case::default_configuration(500, "512")]
#[case::many(2000, "4000")]
fn idle_connections_use_less_than_3_per_cent_of_a_core(#[case] count: usize, #[case] limit: &str) {
    allow_open_files(4096);
    let mood = Mood::with(&[("MAX_CONNECTIONS", limit)]);
    let _idle = idle(&mood, count);
    assert_eq!(mood.metric("http_connections_open"), count as f64 + 1.0);
    let used = mood.cpu_during(Duration::from_secs(4));
    assert!(used < 3.0, "{used:.1} %");
}

#[test]
fn a_few_slow_clients_beside_many_idle_ones_use_less_than_3_per_cent_of_a_core() {
    allow_open_files(4096);
    let mood = Mood::start();
    let _idle = idle(&mood, 400);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut slow = Vec::new();
            for _ in 0..20 {
                let mut stream = mood.connect();
                stream.write_all(b"GET /mood HT").unwrap();
                slow.push(stream);
                thread::sleep(Duration::from_millis(200));
            }
        });
        let used = mood.cpu_during(Duration::from_secs(4));
        assert!(used < 3.0, "{used:.1} %");
    });
}

#[test]
fn connections_from_one_port_to_many_addresses_each_have_their_limits() {
    let mood = Mood::with(&[("LISTEN_ADDR", "0.0.0.0:0"), ("REQUEST_TIMEOUT_S", "1"), ("MAX_CONNECTIONS", "16")]);
    let (_port, from) = own_port();
    let connect = |last: u8| {
        let mut stream = connect_between(from, [127, 0, 1, last], mood.address.port());
        stream.write_all(b"GET /mood HTTP/1.1\r\n").unwrap();
        stream
    };
    let half: Vec<_> = (1..=100).map(connect).collect();
    let is_open = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    within(Duration::from_secs(6), "all of them are closed", || {
        thread::sleep(Duration::from_millis(100));
        (half.iter().filter(is_open).count() == 0).then_some(())
    });
    mood.serves_within(250);
}

#[test]
fn a_port_that_was_refused_and_comes_again_holds_up_nobody() {
    let mood = Mood::with(&[("LISTEN_ADDR", "0.0.0.0:0"), ("WORKERS", "1")]);
    let (_port, from) = own_port();
    let mut streams = Vec::new();
    // The first of them is leaked by the service: no memory can be allocated for its body.
    for (last, length) in [(1, "9223372036854775807"), (2, "2000"), (3, "2000")] {
        let mut stream = connect_between(from, [127, 0, 1, last], mood.address.port());
        let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        streams.push(stream);
        thread::sleep(Duration::from_millis(50));
        mood.serves_within(250);
    }
    let mut good = connect_between(from, [127, 0, 1, 4], mood.address.port());
    good.write_all(b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut BufReader::new(good)).unwrap().0, 200);
}

#[test]
fn a_burst_of_connections_at_a_low_limit_of_open_files_is_served() {
    allow_open_files(4096);
    let mut mood = Mood::with_open_files(1024, &[("LOG_LEVEL", "warn")]);
    wait_for("the lower limit is logged", || (mood.log_has("ulimit -n") == 1).then_some(()));
    thread::scope(|scope| {
        for _ in 0..15 {
            scope.spawn(|| {
                let served: Vec<_> = (0..100).map(|_| idle(&mood, 1)).collect();
                assert_eq!(served.len(), 100);
            });
        }
    });
    assert!(mood.ended().is_none());
    mood.serves_within(1000);
}

#[test]
fn every_reason_to_close_a_connection_is_counted_from_zero() {
    let mood = Mood::start();
    let metrics = mood.get("/metrics").text();
    for reason in ["idle", "slow", "oversized", "excess", "unread", "flood", "refused"] {
        assert!(metrics.contains(&format!("http_connections_closed_total{{reason=\"{reason}\"}} 0\n")), "{reason}");
    }
}

#[test]
fn a_request_maps_no_memory() {
    const MINOR_FAULTS: usize = 10;
    let mood = Mood::start();
    let mut stream = BufReader::new(mood.connect());
    let mut ask = |times: usize| {
        for _ in 0..times {
            stream.get_mut().write_all(b"GET /mood HTTP/1.1\r\nHost: test\r\nAccept: text/html\r\n\r\n").unwrap();
            assert_eq!(read_answer(&mut stream).unwrap().0, 200);
        }
    };
    ask(200);
    let before = mood.stat(MINOR_FAULTS);
    ask(1000);
    let faults = mood.stat(MINOR_FAULTS) - before;
    assert!(faults < 200, "{faults} page faults in 1,000 requests");
}
