//! Bad input over a raw socket: a clear 4xx or a closed connection, and nobody else notices.

mod support;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rstest::rstest;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use support::corpus::damaged;
use support::{Mood, read_all, read_answer, wait_for};

/// The status of the first answer, or `closed`.
fn first_status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").map_or("closed", |rest| &rest[..3])
}

const HOST: &str = "Host: test\r\n";

#[rstest]
#[case::malformed_line("nonsense\r\n\r\n", "400")]
#[case::empty_line("\r\n\r\n", "400")]
#[case::two_words("GET /\r\n\r\n", "400")]
#[case::http_0_9("GET / HTTP/0.9\r\n\r\n", "400")]
#[case::http_1_9("GET / HTTP/1.9\r\nHost: test\r\n\r\n", "400")]
#[case::lower_case_version("GET / http/1.1\r\nHost: test\r\n\r\n", "400")]
#[case::header_without_colon("GET / HTTP/1.1\r\nHost test\r\n\r\n", "400")]
#[case::space_in_header_name("GET / HTTP/1.1\r\nA b: c\r\n\r\n", "400")]
#[case::nul_in_the_target("GET /\0 HTTP/1.1\r\nHost: test\r\n\r\n", "400")]
#[case::nul_in_a_header("GET /mood HTTP/1.1\r\nX: \0\r\n\r\n", "200 400")]
#[case::lone_line_feeds("GET / HTTP/1.1\nHost: test\n\n", "closed")]
#[case::unknown_method("BREW /mood HTTP/1.1\r\nHost: test\r\n\r\n", "405")]
#[case::unknown_method_and_path("BREW /x HTTP/1.1\r\nHost: test\r\n\r\n", "404")]
#[case::asterisk("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n", "404")]
#[case::connect("CONNECT evil:443 HTTP/1.1\r\nHost: evil\r\n\r\n", "404")]
#[case::another_scheme("GET ftp://x/mood HTTP/1.1\r\nHost: test\r\n\r\n", "404")]
#[case::traversal("GET /gif/../../etc/passwd HTTP/1.1\r\nHost: test\r\n\r\n", "404")]
#[case::encoded_traversal("GET /gif/%2e%2e%2fetc%2fpasswd.gif HTTP/1.1\r\nHost: test\r\n\r\n", "404")]
#[case::bad_encoding("GET /gif/%zz%.gif HTTP/1.1\r\nHost: test\r\n\r\n", "404")]
#[case::negative_length("POST /refresh HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400")]
#[case::signed_length("POST /refresh HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", "400")]
#[case::two_lengths("POST /refresh HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "400")]
#[case::length_and_encoding(
    "POST /refresh HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
    "400"
)]
#[case::unknown_encoding("POST /refresh HTTP/1.1\r\nTransfer-Encoding: gzip, x\r\n\r\nx", "411")]
#[case::length_1025("POST /refresh HTTP/1.1\r\nContent-Length: 1025\r\n\r\nx", "413")]
#[case::length_5_gb("POST /refresh HTTP/1.1\r\nContent-Length: 5000000000\r\n\r\nx", "413")]
#[case::length_50_gb("POST /refresh HTTP/1.1\r\nContent-Length: 50000000000\r\n\r\nx", "413")]
#[case::length_2_to_63("POST /refresh HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\nx", "413")]
#[case::length_2_to_64_less_1("GET / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\nx", "413")]
#[case::length_2_to_64("POST /refresh HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\nx", "400")]
#[case::expect_continue("POST /refresh HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "417")]
#[case::expect_continue_long("POST /refresh HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n", "413")]
#[case::expect_something("GET / HTTP/1.1\r\nExpect: a miracle\r\n\r\n", "417")]
fn each_gets_a_clear_answer(#[case] request: &str, #[case] expected: &str) {
    let mood = Mood::start();
    let mut witness = BufReader::new(mood.connect());
    let answer = mood.raw(request.as_bytes());
    assert!(expected.split(' ').any(|status| status == first_status(&answer)), "{answer}");
    // A good client's connection that was open all the while.
    witness.get_mut().write_all(b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut witness).unwrap().0, 200);
    assert_eq!(mood.get("/mood").json()["refreshed"], 0, "something of it was carried out");
    assert_eq!(mood.metric("mood_panics_total"), 0.0);
    mood.assert_small();
}

#[test]
fn a_long_body_gets_the_reason_phrase_of_rfc_9110() {
    let answer = Mood::start().raw(b"POST /refresh HTTP/1.1\r\nContent-Length: 1025\r\n\r\nx");
    assert!(answer.starts_with("HTTP/1.1 413 Content Too Large\r\n"), "{answer}");
}

#[test]
fn an_expected_body_of_no_length_gets_no_100() {
    let mood = Mood::with(&[("MOOD_FAULTS", "on")]);
    for (path, post) in [("/refresh", "200"), ("/faults", "400")] {
        for (method, status) in [("GET", "405"), ("HEAD", "405"), ("POST", post)] {
            for length in ["", "Content-Length: 0\r\n"] {
                let answer = mood
                    .raw(format!("{method} {path} HTTP/1.1\r\n{HOST}Expect: 100-continue\r\n{length}\r\n").as_bytes());
                assert_eq!(first_status(&answer), status, "{method} {path} {length:?}: {answer}");
            }
        }
    }
}

#[rstest]
#[case::a_plus_sign_before_a_long_length("POST /refresh HTTP/1.1\r\nContent-Length: +5000\r\n\r\nx", "400")]
#[case::and_for_a_route_that_reads_no_body("GET /mood HTTP/1.1\r\nContent-Length: +5000\r\n\r\nx", "400")]
#[case::a_plus_sign_and_another_length(
    "GET /mood HTTP/1.1\r\nContent-Length: +5000\r\nContent-Length: 1\r\n\r\nx",
    "400"
)]
#[case::a_plus_sign_before_what_cannot_be_allocated(
    "GET /mood HTTP/1.1\r\nContent-Length: +9223372036854775807\r\n\r\nx",
    "400"
)]
#[case::a_long_length_and_an_upgrade(
    "POST /refresh HTTP/1.1\r\nConnection: upgrade\r\nContent-Length: 5000\r\n\r\nx",
    "413"
)]
#[case::an_upgrade_without_a_length("POST /faults HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "400")]
#[case::an_upgrade_with_a_length(
    "POST /faults HTTP/1.1\r\nConnection: x, upgrade\r\nContent-Length: 2\r\n\r\n{}",
    "400"
)]
#[case::an_upgrade_by_the_absolute_target(
    "POST http://x/faults?a HTTP/1.1\r\nConnection: upgrade\r\nContent-Length: 9\r\n\r\n{",
    "400"
)]
fn a_body_that_does_not_arrive_holds_up_nobody_else(#[case] request: &str, #[case] expected: &str) {
    let mood = Mood::with(&[("MOOD_FAULTS", "on")]);
    let mut stream = mood.connect();
    stream.write_all(request.as_bytes()).unwrap();
    let answer = BufReader::new(&stream).lines().next().map_or_else(String::new, |line| line.unwrap_or_default());
    assert_eq!(first_status(&answer), expected, "{answer}");
    mood.serves_within(1000);
    assert_eq!(mood.get("/mood").json()["refreshed"], 0, "something of it was carried out");
}

#[test]
fn no_request_that_is_near_a_good_one_does_harm() {
    // Most of the time, the clients wait until an incomplete request times out.
    let mood = Mood::with(&[("REQUEST_TIMEOUT_S", "1")]);
    let cases = if std::env::var("MOOD_TEST_CASES").as_deref() == Ok("full") { 200 } else { 50 };
    let attack = || {
        let mut runner = TestRunner::default();
        let requests = damaged("requests");
        for _ in 0..cases {
            let request = requests.new_tree(&mut runner).unwrap().current();
            let mut stream = mood.connect();
            let _ = stream.write_all(&request);
            let _ = stream.shutdown(Shutdown::Write);
            let answers = read_all(&mut stream);
            // Nothing at all, or an answer; of those that are the server's fault only the one to a version it does not speak.
            let status = answers.split(' ').nth(1).map_or(400, |status| status.parse().unwrap_or(500));
            assert!(status < 500 || status == 505, "{}: {answers}", request.escape_ascii());
        }
    };
    thread::scope(|scope| {
        (0..8).for_each(|_| drop(scope.spawn(attack)));
        for _ in 0..20 {
            mood.serves();
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(mood.metric("mood_panics_total"), 0.0);
    mood.serves();
    mood.assert_small();
}

#[test]
fn non_ascii_bytes_end_the_connection() {
    let mood = Mood::start();
    let answer = mood.raw(b"GET /\xff\xfe HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(matches!(first_status(&answer), "400" | "closed"), "{answer}");
    let answer = mood.raw(b"GET / HTTP/1.1\r\nX-Caf\xc3\xa9: x\r\n\r\n");
    assert!(matches!(first_status(&answer), "400" | "closed"), "{answer}");
    mood.serves();
}

#[rstest]
#[case::url_of_9_kb(format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "x".repeat(9_000)), "414")]
#[case::url_of_100_kb(format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "x".repeat(100_000)), "414")]
#[case::url_of_10_mb(format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "x".repeat(10_000_000)), "414 closed")]
#[case::header_of_1_mb(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1_000_000)), "431 closed")]
#[case::header_of_100_mb(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000_000)), "431 closed")]
#[case::headers_10_000(format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(10_000)), "431")]
#[case::headers_1_000_000(format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(1_000_000)), "431 closed")]
fn what_is_too_long_is_refused_in_little_memory(#[case] request: String, #[case] expected: &str) {
    let mood = Mood::start();
    let answer = mood.raw(request.as_bytes());
    assert!(expected.split(' ').any(|status| status == first_status(&answer)), "{answer}");
    // On a connection that is known as a good one, and on many at once.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut stream = BufReader::new(mood.connect());
                stream.get_mut().write_all(b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
                assert_eq!(read_answer(&mut stream).unwrap().0, 200);
                let _ = stream.get_mut().write_all(request.as_bytes());
                let _ = stream.read(&mut [0; 64]);
            });
        }
    });
    mood.serves();
    mood.assert_small();
}

#[test]
fn many_unfinished_requests_take_little_memory() {
    let mood = Mood::start();
    let head = format!("GET / HTTP/1.1\r\n{HOST}{}", "a:b\r\n".repeat(4_000));
    let unfinished: Vec<_> = (0..500)
        .map(|_| {
            let mut stream = mood.connect();
            // Some of them are closed before they have sent it all.
            let _ = stream.write_all(head.as_bytes());
            stream
        })
        .collect();
    // The machine still parses what it got.
    mood.serves_within(1000);
    mood.assert_small();
    assert!(mood.metric("http_connections_closed_total{reason=\"oversized\"}") > 0.0);
    drop(unfinished);
}

#[test]
fn a_body_that_never_comes_blocks_no_worker() {
    let mood = Mood::with(&[("WORKERS", "2")]);
    for length in ["10", "1024", "1025", "5000000000"] {
        let request = format!("POST /refresh HTTP/1.1\r\n{HOST}Content-Length: {length}\r\n\r\n");
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let mut stream = mood.connect();
                stream.write_all(request.as_bytes()).unwrap();
                stream
            })
            .collect();
        for _ in 0..20 {
            mood.serves_within(250);
        }
        drop(waiting);
    }
}

#[test]
fn a_chunked_body_that_never_ends_is_refused_and_none_of_it_is_carried_out() {
    let mood = Mood::start();
    let mut stream = mood.connect();
    stream.write_all(b"POST /mood HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let smuggled = "POST /refresh HTTP/1.1\r\nHost: test\r\n\r\n";
    for _ in 0..200 {
        let chunk = format!("{:x}\r\n{smuggled}\r\n{smuggled}", smuggled.len());
        if stream.write_all(chunk.as_bytes()).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(first_status(&read_all(&mut stream)), "411");
    assert_eq!(mood.get("/mood").json()["refreshed"], 0);
}

#[test]
fn what_follows_a_refused_body_is_not_carried_out() {
    let mood = Mood::start();
    let smuggled = "POST /refresh HTTP/1.1\r\nHost: test\r\n\r\n".repeat(50);
    for head in ["Content-Length: 2000", "Content-Length: -1", "Transfer-Encoding: chunked"] {
        mood.raw(format!("POST /mood HTTP/1.1\r\n{HOST}{head}\r\n\r\n{smuggled}").as_bytes());
    }
    assert_eq!(mood.get("/mood").json()["refreshed"], 0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mood = Mood::start();
    let paths = ["/mood", "/livez", "/nothing", "/version", "/refresh"];
    let statuses = [200, 200, 404, 200, 405];
    let request: String = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\n{HOST}\r\n")).collect();
    let mut stream = BufReader::new(mood.connect());
    for _ in 0..100 {
        stream.get_mut().write_all(request.as_bytes()).unwrap();
    }
    for n in 0..500 {
        assert_eq!(read_answer(&mut stream).unwrap().0, statuses[n % 5], "answer {n}");
    }
}

#[test]
fn a_refresh_between_pipelined_reads_is_seen_by_the_reads_after_it() {
    // One worker: several may answer what a client sent in advance side by side.
    let mood = Mood::with(&[("WORKERS", "1")]);
    let get = format!("GET /mood HTTP/1.1\r\n{HOST}\r\n");
    let request = format!("{get}POST /refresh HTTP/1.1\r\n{HOST}\r\n{get}");
    let mut stream = BufReader::new(mood.connect());
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let bodies: Vec<_> = (0..3).map(|_| read_answer(&mut stream).unwrap().1).collect();
    assert!(bodies[0] != bodies[1] && bodies[1] == bodies[2]);
}

#[test]
fn a_flood_of_pipelined_requests_is_cut_off() {
    let mood = Mood::with(&[("LOG_LEVEL", "warn")]);
    let flood = "GET /mood HTTP/1.1\r\n\r\n".repeat(20_000);
    thread::scope(|scope| {
        let mut reading = mood.connect();
        let mut writing = reading.try_clone().unwrap();
        scope.spawn(move || (0..10).try_for_each(|_| writing.write_all(flood.as_bytes())));
        scope.spawn(move || std::io::copy(&mut reading, &mut std::io::sink()));
        for _ in 0..50 {
            mood.serves_within(500);
        }
    });
    mood.assert_small();
}

#[test]
fn a_client_that_never_reads_holds_up_nobody() {
    let mood = Mood::with(&[("WORKERS", "1")]);
    let gif = mood.get("/mood").json()["gif"].as_str().unwrap().to_owned();
    let request = format!("GET {gif} HTTP/1.1\r\n{HOST}\r\n").repeat(2000);
    let mut deaf: Vec<TcpStream> = (0..4).map(|_| mood.connect()).collect();
    for stream in &mut deaf {
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let _ = stream.write_all(request.as_bytes());
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        mood.serves_within(1000);
    }
    // By the worker that met a full buffer, or by the limit of bytes that have no answer.
    let closed = |reason| mood.metric(&format!("http_connections_closed_total{{reason=\"{reason}\"}}"));
    assert!(closed("unread") + closed("oversized") >= 4.0);
    mood.assert_small();
}

#[test]
fn one_byte_a_second_ends_with_the_request_s_time() {
    let mood = Mood::with(&[("REQUEST_TIMEOUT_S", "2")]);
    let mut slow: Vec<_> = (0..20).map(|_| mood.connect()).collect();
    let began = Instant::now();
    let mut request = b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n".iter();
    wait_for("all slow clients are cut off", || {
        let byte = [*request.next().unwrap()];
        slow.retain_mut(|stream| stream.write_all(&byte).is_ok());
        mood.serves_within(250);
        thread::sleep(Duration::from_millis(500));
        slow.is_empty().then_some(())
    });
    assert!(began.elapsed() > Duration::from_millis(1500));
    assert!(mood.metric("http_connections_closed_total{reason=\"slow\"}") >= 20.0);
}

#[test]
fn clients_that_connect_and_send_nothing_starve_nobody() {
    let mood = Mood::with(&[("REQUEST_TIMEOUT_S", "1")]);
    let silent: Vec<_> = (0..500).map(|_| mood.connect()).collect();
    for _ in 0..20 {
        mood.serves_within(250);
    }
    mood.assert_small();
    wait_for("they are closed", || (mood.metric("http_connections_open") < 10.0).then_some(()));
    drop(silent);
    wait_for("their threads end", || (mood.status("Threads") < 20).then_some(()));
}

#[test]
fn more_connections_than_allowed_close_the_idlest() {
    let mood = Mood::with(&[("MAX_CONNECTIONS", "100")]);
    let silent: Vec<_> = (0..300).map(|_| mood.connect()).collect();
    wait_for("the excess is closed", || (mood.metric("http_connections_open") <= 100.0).then_some(()));
    assert!(mood.metric("http_connections_closed_total{reason=\"excess\"}") > 0.0);
    // One that finds the kernel's queue full is let in at its next try, a second or three later.
    mood.serves_within(4000);
    drop(silent);
}

#[test]
fn resets_end_nothing_but_their_own_connection() {
    let mood = Mood::start();
    let reset = |request: &[u8]| {
        let mut stream = TcpStream::connect(mood.address).unwrap();
        let _ = stream.write_all(request);
        // Closing with a zero linger sends a reset.
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    };
    for round in 0..3000 {
        reset(if round % 3 == 0 { b"GET /mood HT" } else { b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n" });
        if round % 100 == 0 {
            mood.serves_within(500);
        }
    }
    wait_for("their threads end", || (mood.status("Threads") < 20).then_some(()));
    let logged = mood.log_has("caught a panic");
    assert!(logged <= 30, "{logged} lines");
    mood.assert_small();
}

#[test]
fn a_thousand_http_2_request_lines_end_in_a_drained_restart_at_worst() {
    let mut mood = Mood::with(&[("REQUEST_TIMEOUT_S", "1")]);
    let address = mood.address;
    // Past the limit connections wait, so each client has a thread and some patience.
    let attackers: Vec<_> = (0..20)
        .map(|_| {
            thread::spawn(move || {
                let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok();
                let mut streams: Vec<_> = (0..50).filter_map(|_| connect()).collect();
                streams.iter_mut().for_each(|stream| drop(stream.write_all(b"GET / HTTP/2.0\r\nHost: test\r\n\r\n")));
                streams
            })
        })
        .collect();
    wait_for("the replica drains", || {
        mood.assert_small_if_running();
        (mood.log_has("draining") > 0).then_some(())
    });
    let status = mood.wait();
    assert_eq!(status.code(), Some(1));
    drop(attackers);
    assert!(mood.log_has("hang for good") == 1 && mood.log_has("draining") >= 1, "{:#?}", mood.log().last());
}

#[test]
fn a_few_stuck_connections_are_counted_and_survived() {
    let mood = Mood::with(&[("REQUEST_TIMEOUT_S", "1")]);
    let mut stuck: Vec<_> = (0..20).map(|_| mood.connect()).collect();
    stuck.iter_mut().for_each(|stream| stream.write_all(b"GET / HTTP/2.0\r\n\r\n").unwrap());
    wait_for("they are counted", || (mood.metric("http_connections_stuck") >= 20.0).then_some(()));
    mood.serves_within(250);
}

#[test]
fn a_length_too_large_to_allocate_is_counted_as_stuck() {
    let mood = Mood::with(&[("REQUEST_TIMEOUT_S", "1")]);
    for _ in 0..5 {
        let answer = mood.raw(b"POST /refresh HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\n");
        assert_eq!(first_status(&answer), "413");
    }
    wait_for("they are counted", || (mood.metric("http_connections_stuck") >= 5.0).then_some(()));
    mood.serves();
}
