//! Redis refused, hung, slow, restarting: the service answers all the same, and recovers by itself.

mod support;

use chrono::Utc;
use mood::observability::metrics::Metrics;
use mood::store::redis::RedisStore;
use mood::store::{Store, StoredValue};
use rstest::rstest;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use support::{Mood, PATIENCE, Redis, read_answer, within};

/// The service and its Redis, warm.
fn started() -> (Mood, Redis) {
    let redis = Redis::start();
    let mood = Mood::with_redis(&redis);
    within(PATIENCE, "Redis is used", || (mood.get("/mood").header("x-cache") == "HIT").then_some(()));
    (mood, redis)
}

/// 32 clients ask for a while; gives how long each answer took, sorted. All answers must be 200.
fn latencies_of_32_clients(mood: &Mood, duration: Duration) -> Vec<Duration> {
    let mut latencies: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..32)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = BufReader::new(mood.connect());
                    let (began, mut latencies) = (Instant::now(), Vec::new());
                    while began.elapsed() < duration {
                        let asked = Instant::now();
                        stream.get_mut().write_all(b"GET /mood HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
                        assert_eq!(read_answer(&mut stream).unwrap().0, 200);
                        latencies.push(asked.elapsed());
                        thread::sleep(Duration::from_millis(5));
                    }
                    latencies
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    latencies.sort();
    latencies
}

/// GET is answered from here, POST is told to come again, and all of it fast; afterwards Redis is used again within
/// 2 s of `bring_back`, and the outage was logged once at each end.
fn survives(mood: &Mood, during: impl FnOnce(), bring_back: impl FnOnce()) {
    let before = mood.get("/mood").json();
    // On a busy machine the first connection may have come too late once.
    let logged = || (mood.log_has("Redis is away"), mood.log_has("Redis is back"));
    let (away, back) = logged();
    let latencies = thread::scope(|scope| {
        let clients = scope.spawn(|| latencies_of_32_clients(mood, Duration::from_secs(2)));
        thread::sleep(Duration::from_millis(300));
        during();
        clients.join().unwrap()
    });
    let p99 = latencies[latencies.len() * 99 / 100];
    assert!(p99 <= Duration::from_millis(50), "p99 of {} answers: {p99:?}", latencies.len());

    let answer = mood.get("/mood");
    assert_eq!((answer.header("x-cache"), &answer.json()["date"]), ("BYPASS", &before["date"]));
    let refused = mood.request("POST", "/refresh", &[]);
    assert_eq!((refused.status, refused.header("retry-after")), (503, "2"));
    let asked = Instant::now();
    let health = mood.get("/health");
    assert!(health.status == 503 && asked.elapsed() < Duration::from_millis(250));
    assert!(health.json()["redis"].as_str().unwrap().starts_with("Redis is away"));
    assert_eq!((mood.get("/livez").status, mood.get("/readyz").status), (200, 200));

    bring_back();
    within(Duration::from_secs(2), "Redis is used again", || {
        (mood.get("/mood").header("x-cache") == "HIT").then_some(())
    });
    within(PATIENCE, "the log has both ends", || (logged() == (away + 1, back + 1)).then_some(()));
    assert!(mood.get("/metrics").text().contains("mood_cache_requests_total{result=\"bypass\"}"));
}

#[test]
fn killed_and_started_again() {
    let (mood, redis) = started();
    let redis = std::cell::RefCell::new(redis);
    survives(&mood, || redis.borrow_mut().kill(), || redis.borrow_mut().run());
}

#[test]
fn hung_and_resumed() {
    let (mood, redis) = started();
    survives(&mood, || redis.pause(), || redis.resume());
}

#[test]
fn restarted_in_between_costs_no_answer() {
    let (mood, mut redis) = started();
    for _ in 0..3 {
        redis.kill();
        redis.run();
        // Every pooled connection is broken now; each request finds out and is answered all the same.
        within(Duration::from_secs(2), "Redis is used again", || {
            let answer = mood.get("/mood");
            assert_eq!(answer.status, 200);
            (answer.header("x-cache") == "HIT").then_some(())
        });
    }
}

#[test]
fn not_there_when_the_service_starts() {
    let mut redis = Redis::reserved();
    let mood = Mood::with_redis(&redis);
    let answer = mood.get("/mood");
    assert_eq!((answer.status, answer.header("x-cache")), (200, "BYPASS"));
    redis.run();
    within(Duration::from_secs(2), "Redis is used", || (mood.get("/mood").header("x-cache") != "BYPASS").then_some(()));
}

#[test]
fn too_slow_counts_as_away() {
    let redis = Redis::start();
    let proxy = proxy(redis.port, Duration::from_millis(150), WHOLE);
    let mood = Mood::with(&[("REDIS_URL", &format!("redis://127.0.0.1:{proxy}"))]);
    let latencies = latencies_of_32_clients(&mood, Duration::from_secs(2));
    let p99 = latencies[latencies.len() * 99 / 100];
    assert!(p99 <= Duration::from_millis(50), "{p99:?}");
    assert_eq!(mood.get("/mood").header("x-cache"), "BYPASS");
    assert_eq!(mood.log_has("Redis is away"), 1);
}

#[test]
fn a_redis_that_refuses_to_write_degrades() {
    let redis = Redis::with(&["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"]);
    let mood = Mood::with_redis(&redis);
    redis.query::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let answer = mood.get("/mood");
    assert_eq!((answer.status, answer.header("x-cache")), (200, "BYPASS"));
    assert_eq!(mood.request("POST", "/refresh", &[]).status, 503);
    assert!(mood.metric("redis_errors_total{kind=\"reply\"}") >= 2.0);
    within(PATIENCE, "the log says so", || (mood.log_has("OOM") == 1).then_some(()));
}

/// Waits until `/health` reports this as the reason.
fn reports(mood: &Mood, reason: &str) {
    within(PATIENCE, reason, || mood.get("/health").json()["redis"].as_str()?.contains(reason).then_some(()));
}

#[rstest]
#[case::wrong_password(&["--requirepass", "s3cret"], "redis://ann:wr0ng@127.0.0.1:PORT", "WRONGPASS")]
#[case::no_password(&["--requirepass", "s3cret"], "redis://127.0.0.1:PORT", "NOAUTH")]
#[case::no_password_for_a_database(&["--requirepass", "s3cret"], "redis://127.0.0.1:PORT/3", "NOAUTH")]
#[case::no_such_database(&[], "redis://127.0.0.1:PORT/99", "ERR DB index is out of range")]
// Redis repeats the arguments of a command that it does not have.
#[case::no_auth_command(&["--rename-command", "AUTH", ""], "redis://ann:s3cret@127.0.0.1:PORT", "unknown command 'AUTH'")]
#[case::nothing_listens(&[], "redis://ann:s3cret@127.0.0.1:1", "Connection refused")]
#[case::unknown_host(&[], "redis://ann:s3cret@LABEL:6379", "failed to lookup address")]
fn the_reason_is_reported_without_secrets(#[case] arguments: &[&str], #[case] url: &str, #[case] reason: &str) {
    let redis = Redis::with(arguments);
    // No resolver needs a network to reject a label of more than 63 characters.
    let url = url.replace("PORT", &redis.port.to_string()).replace("LABEL", &"n".repeat(64));
    let mood = Mood::with(&[("REDIS_URL", &url)]);
    // The first attempt to connect has failed by then, also on a busy machine.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(mood.get("/mood").header("x-cache"), "BYPASS");
    reports(&mood, reason);
    within(PATIENCE, "the log has the reason", || (mood.log_has(reason) == 1).then_some(()));
    assert_eq!(mood.log_has("Redis is away"), 1);
    let shown = format!("{}{}{}", mood.get("/health").text(), mood.log().join(""), mood.get("/metrics").text());
    for secret in ["wr0ng", "s3cret", "ann:", "'ann'", "redis://"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn a_server_without_a_word_is_reported() {
    // The kernel accepts for it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mood = Mood::with(&[("REDIS_URL", &format!("redis://{}", silent.local_addr().unwrap()))]);
    mood.get("/mood");
    reports(&mood, "cannot connect: no reply in time");
}

#[test]
fn a_reason_that_changes_is_reported_and_a_refused_login_ends_with_its_cause() {
    let mut redis = Redis::reserved();
    let mood = Mood::with(&[("REDIS_URL", &format!("redis://:s3cret@127.0.0.1:{}", redis.port))]);
    mood.get("/mood");
    reports(&mood, "Connection refused");
    redis.run();
    reports(&mood, "AUTH <password> called without any password configured");
    redis.query::<()>(&["CONFIG", "SET", "requirepass", "s3cret"]);
    within(PATIENCE, "Redis is used", || (mood.get("/mood").header("x-cache") == "HIT").then_some(()));
    assert_eq!(mood.log_has("Redis is away"), 1);
}

/// The service as a Redis user who may do everything except this.
fn without_permission(redis: &Redis, command: &str) -> Mood {
    redis.query::<()>(&["ACL", "SETUSER", "ann", "on", ">s3cret", "~*", "+@all", command]);
    Mood::with(&[("REDIS_URL", &format!("redis://ann:s3cret@127.0.0.1:{}", redis.port)), ("REDIS_TIMEOUT_MS", "100")])
}

#[test]
fn an_outage_ends_also_for_a_user_who_may_not_ping() {
    let redis = Redis::start();
    let mood = without_permission(&redis, "-ping");
    within(PATIENCE, "Redis is used", || (mood.get("/mood").header("x-cache") == "HIT").then_some(()));
    redis.pause();
    within(PATIENCE, "it is not", || (mood.get("/mood").header("x-cache") == "BYPASS").then_some(()));
    redis.resume();
    within(PATIENCE, "Redis is used again", || (mood.get("/mood").header("x-cache") == "HIT").then_some(()));
}

#[rstest]
fn a_refresh_without_one_of_its_commands_is_refused_and_changes_nothing(
    #[values("watch", "get", "expiretime", "multi", "exec", "set")] command: &str,
) {
    let redis = Redis::start();
    // Another replica, which may do all.
    let other = Mood::with_redis(&redis);
    within(PATIENCE, "the mood is stored", || (other.get("/mood").header("x-cache") == "HIT").then_some(()));
    let key = redis.key("mood:");
    let before: Vec<u8> = redis.query(&["GET", &key]);
    let mood = without_permission(&redis, &format!("-{command}"));
    within(PATIENCE, "a connection", || (mood.get("/health").status == 200).then_some(()));
    // The start may have been slower than the first request.
    let away = mood.log_has("Redis is away");
    for _ in 0..3 {
        assert_eq!(mood.request("POST", "/refresh", &[]).status, 503);
    }
    assert_eq!(redis.query::<Vec<u8>>(&["GET", &key]), before);
    assert_eq!(mood.metric("mood_refreshes_total"), 0.0);
    assert_eq!(mood.metric("redis_errors_total{kind=\"reply\"}"), 3.0);
    assert_eq!(mood.log_has("Redis is away"), away);
    within(PATIENCE, "the log has the reason", || (mood.log_has("NOPERM") == 1).then_some(()));
    let reads = if matches!(command, "get" | "expiretime") { "BYPASS" } else { "HIT" };
    assert_eq!(mood.get("/mood").header("x-cache"), reads);
}

#[test]
fn an_exhausted_pool_is_not_an_outage() {
    let redis = Redis::start();
    let proxy = proxy(redis.port, Duration::from_millis(30), WHOLE);
    let mood = Mood::with(&[
        ("REDIS_URL", &format!("redis://127.0.0.1:{proxy}")),
        ("REDIS_TIMEOUT_MS", "100"),
        ("REDIS_POOL_SIZE", "1"),
        ("WORKERS", "8"),
    ]);
    let other = Mood::with_redis(&redis);
    within(PATIENCE, "Redis is used", || (mood.get("/mood").header("x-cache") == "HIT").then_some(()));
    // The start may have been slower than the first request.
    let (away, connect) = (mood.log_has("Redis is away"), mood.metric("redis_errors_total{kind=\"connect\"}"));

    // Within half of the time-out the one connection is free once or twice.
    let states: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| mood.get("/health"))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let busy: Vec<_> = states.iter().filter(|state| state.status == 503).collect();
    assert!((1..8).contains(&busy.len()), "{states:?}");
    assert!(busy.iter().all(|state| state.text().contains("all connections to Redis are in use")), "{busy:?}");
    assert_eq!(mood.metric("redis_errors_total{kind=\"busy\"}"), busy.len() as f64);
    within(PATIENCE, "it is logged once", || (mood.log_has("are in use") == 1).then_some(()));

    assert_eq!(mood.get("/mood").header("x-cache"), "HIT");
    assert_eq!(mood.get("/mood").body, other.get("/mood").body);
    assert_eq!(mood.log_has("Redis is away"), away);
    assert_eq!(mood.metric("redis_errors_total{kind=\"connect\"}"), connect);
}

/// At the store itself: a worker may take several requests at once, which then wait for each other.
#[test]
fn many_updates_at_a_slow_redis_end_within_their_deadline() {
    let redis = Redis::start();
    let proxy = proxy(redis.port, Duration::from_millis(25), WHOLE);
    let client = redis::Client::open(format!("redis://127.0.0.1:{proxy}")).unwrap();
    let metrics = Arc::new(Metrics::new("test"));
    let store = RedisStore::new(client, 2, Duration::from_millis(100), metrics);
    within(PATIENCE, "Redis is used", || store.ping().ok());
    let tomorrow = Utc::now() + Duration::from_secs(86_400);
    let count = |found: Option<&StoredValue>| found.map_or(0, |found| found.bytes.len());
    let update = || {
        let began = Instant::now();
        let result = store.update("key", tomorrow, &mut |found| Some(vec![b'x'; count(found) + 1]));
        (result.map_err(|error| error.reason), began.elapsed())
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..32).map(|_| scope.spawn(update)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let written = results.iter().filter(|(result, _)| result.is_ok()).count();
    assert!((1..32).contains(&written), "{results:?}");
    assert_eq!(count(store.get("key").unwrap().as_ref()), written);
    for (result, took) in &results {
        assert!(result.as_ref().err().is_none_or(|reason| reason.contains("wait for their turn")), "{results:?}");
        // None begins after 400 ms; one after the other, all of them would take 1.6 s.
        assert!(*took < Duration::from_millis(800), "{results:?}");
    }
}

#[test]
fn refreshes_at_a_hung_redis_end_within_their_deadline() {
    let redis = Redis::start();
    let mood = Mood::with(&[("REDIS_URL", &redis.url()), ("REDIS_TIMEOUT_MS", "100"), ("WORKERS", "8")]);
    within(PATIENCE, "Redis is used", || (mood.get("/mood").header("x-cache") == "HIT").then_some(()));
    redis.pause();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let asked = Instant::now();
                assert_eq!(mood.request("POST", "/refresh", &[]).status, 503);
                assert!(asked.elapsed() < Duration::from_millis(400), "{:?}", asked.elapsed());
            });
        }
    });
}

#[test]
fn a_reply_that_trickles_in_ends_with_the_time_out() {
    let redis = Redis::start();
    let other = Mood::with_redis(&redis);
    within(PATIENCE, "the mood is stored", || (other.get("/mood").header("x-cache") == "HIT").then_some(()));
    let proxy = proxy(redis.port, Duration::from_millis(15), 1);
    let mood = Mood::with(&[("REDIS_URL", &format!("redis://127.0.0.1:{proxy}"))]);
    within(PATIENCE, "a connection", || (mood.metric("redis_pool_connections{state=\"idle\"}") > 0.0).then_some(()));
    let asked = Instant::now();
    // More than 100 bytes of Redis's, each well within 30 ms.
    assert_eq!(mood.get("/mood").header("x-cache"), "BYPASS");
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    reports(&mood, "no reply in time");
}

/// All that arrives at once, in the same piece.
const WHOLE: usize = 4096;

/// Forwards bytes to `port`, and the replies in pieces of `size` bytes, each after `delay`. Returns its own port.
fn proxy(port: u16, delay: Duration, size: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            client.set_nodelay(true).unwrap();
            pass(client.try_clone().unwrap(), server.try_clone().unwrap(), Duration::ZERO, WHOLE);
            pass(server, client, delay, size);
        }
    });
    own
}

fn pass(mut from: TcpStream, mut to: TcpStream, delay: Duration, size: usize) {
    thread::spawn(move || {
        let mut buffer = [0; WHOLE];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            for piece in buffer[..length].chunks(size) {
                thread::sleep(delay);
                if to.write_all(piece).is_err() {
                    return;
                }
            }
        }
    });
}
