//! The day's mood in a real Redis: what is stored, how long, and that all replicas agree.

mod support;

use rstest::rstest;
use std::collections::HashSet;
use std::thread;
use support::{Mood, Redis};

/// With more patience than the default: what is stored is tested here, not how fast a busy machine reads it.
fn replica(redis: &Redis) -> Mood {
    Mood::with(&[("REDIS_URL", &redis.url()), ("REDIS_TIMEOUT_MS", "100")])
}

fn next_midnight_utc() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    (now / 86_400 + 1) * 86_400
}

#[test]
fn a_mood_is_stored_as_it_is_answered_until_the_next_midnight() {
    let redis = Redis::start();
    let mood = replica(&redis);
    assert_eq!(mood.get("/health").text(), r#"{"status":"ok","redis":"ok"}"#);
    let answer = mood.get("/mood");
    assert_eq!(answer.header("x-cache"), "MISS");
    let key = redis.key("mood:");
    assert_eq!(key, format!("mood:{}", answer.json()["date"].as_str().unwrap()));
    assert_eq!(redis.query::<Vec<u8>>(&["GET", &key]), answer.body);
    assert_eq!(redis.query::<i64>(&["EXPIRETIME", &key]), next_midnight_utc());
    assert_eq!(mood.get("/mood").header("x-cache"), "HIT");
}

#[test]
fn a_hit_is_one_get() {
    let redis = Redis::start();
    let mood = replica(&redis);
    mood.get("/mood");
    let calls = |command: &str| {
        let info: String = redis.query(&["INFO", "commandstats"]);
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse::<i64>().unwrap())
    };
    let before = (calls("get"), calls("set"));
    (0..10).for_each(|_| drop(mood.get("/mood")));
    assert_eq!((calls("get"), calls("set")), (before.0 + 10, before.1));
}

#[test]
fn replicas_that_race_on_a_cold_key_all_answer_the_same_bytes() {
    let redis = Redis::start();
    let replicas: Vec<_> = (0..4).map(|_| replica(&redis)).collect();
    for _ in 0..20 {
        redis.query::<()>(&["FLUSHALL"]);
        let answers: HashSet<_> = thread::scope(|scope| {
            let racers: Vec<_> = replicas.iter().map(|replica| scope.spawn(|| replica.get("/mood").body)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(answers.len(), 1);
    }
}

#[test]
fn a_refresh_is_seen_by_every_replica_at_once() {
    let redis = Redis::start();
    let replicas: Vec<_> = (0..3).map(|_| replica(&redis)).collect();
    let mut last = replicas[0].get("/mood").json();
    for round in 0..12 {
        let new = replicas[round % 3].request("POST", "/refresh", &[]).json();
        assert_ne!(new["mood"], last["mood"]);
        for replica in &replicas {
            assert_eq!(replica.get("/mood").json(), new);
        }
        last = new;
    }
    assert_eq!(redis.query::<i64>(&["EXPIRETIME", &redis.key("mood:")]), next_midnight_utc());
}

#[test]
fn racing_refreshes_are_all_counted_and_each_changes_the_mood() {
    let redis = Redis::start();
    let replicas: Vec<_> = (0..4).map(|_| replica(&redis)).collect();
    let mut moods: Vec<_> = thread::scope(|scope| {
        let racers: Vec<_> = replicas
            .iter()
            .map(|replica| {
                scope.spawn(|| {
                    let answers = (0..25).map(|_| replica.request("POST", "/refresh", &[]).json());
                    answers.map(|json| (json["refreshed"].as_u64().unwrap(), json["mood"].clone())).collect::<Vec<_>>()
                })
            })
            .collect();
        racers.into_iter().flat_map(|racer| racer.join().unwrap()).collect()
    });
    moods.sort_by_key(|(count, _)| *count);
    let counts: Vec<_> = moods.iter().map(|(count, _)| *count).collect();
    assert_eq!(counts, (1..=100).collect::<Vec<_>>());
    assert!(moods.windows(2).all(|pair| pair[0].1 != pair[1].1));
}

#[test]
fn a_gif_is_drawn_once_for_all_replicas() {
    let redis = Redis::start();
    let (one, other) = (replica(&redis), replica(&redis));
    let path = one.get("/mood").json()["gif"].as_str().unwrap().to_owned();
    let drawn = one.get(&path);
    assert_eq!(drawn.header("x-cache"), "MISS");
    let fetched = other.get(&path);
    assert_eq!(fetched.header("x-cache"), "HIT");
    assert_eq!(fetched.body, drawn.body);
    assert_eq!(redis.query::<i64>(&["EXPIRETIME", &redis.key("gif:")]), next_midnight_utc());
}

#[rstest]
#[case::wrong_type(&["LPUSH", "KEY", "x"])]
#[case::broken_json(&["SET", "KEY", "{\"date\":", "EX", "1000"])]
#[case::not_json(&["SET", "KEY", "\u{0}\u{1}", "EX", "1000"])]
#[case::unknown_mood(&["SET", "KEY", "{\"date\":\"DATE\",\"mood\":\"Hangry\",\"refreshed\":0}", "EX", "1000"])]
#[case::another_day(&["SET", "KEY", "{\"date\":\"1999-01-01\",\"mood\":\"Sunny\",\"refreshed\":0}", "EX", "1000"])]
#[case::resembling(&["SET", "KEY", "{\"date\":\"DATE\",\"mood\":\"Sunny\",\"refreshed\":0}", "EX", "1000"])]
#[case::empty(&["SET", "KEY", "", "EX", "1000"])]
#[case::huge(&["SETRANGE", "KEY", "3000000", "x"])]
#[case::no_expiry(&["PERSIST", "KEY"])]
fn a_value_that_is_not_ours_is_replaced_counted_and_logged(#[case] command: &[&str]) {
    let redis = Redis::start();
    let mood = replica(&redis);
    let date = mood.get("/mood").json()["date"].as_str().unwrap().to_owned();
    let key = format!("mood:{date}");
    if command[0] != "PERSIST" {
        redis.query::<()>(&["DEL", &key]);
    }
    let command: Vec<_> = command.iter().map(|word| word.replace("KEY", &key).replace("DATE", &date)).collect();
    redis.query::<redis::Value>(&command.iter().map(String::as_str).collect::<Vec<_>>());

    let answer = mood.get("/mood");
    assert_eq!((answer.status, answer.header("x-cache")), (200, "MISS"));
    assert_eq!(redis.query::<Vec<u8>>(&["GET", &key]), answer.body);
    assert_eq!(redis.query::<i64>(&["EXPIRETIME", &key]), next_midnight_utc());
    assert_eq!(mood.get("/mood").header("x-cache"), "HIT");
    assert_eq!(mood.metric("mood_foreign_values_total"), 1.0);
    support::wait_for("the log says so", || (mood.log_has("is replaced") == 1).then_some(()));
    mood.assert_small();
}

#[test]
fn a_gif_that_is_not_ours_is_replaced() {
    let redis = Redis::start();
    let mood = replica(&redis);
    let path = mood.get("/mood").json()["gif"].as_str().unwrap().to_owned();
    let key = format!("gif:{}", path.trim_start_matches("/gif/").trim_end_matches(".gif"));
    redis.query::<()>(&["SET", &key, "GIF89a and then nonsense", "EX", "1000"]);
    let answer = mood.get(&path);
    assert_eq!((answer.status, answer.header("x-cache")), (200, "MISS"));
    assert_eq!(redis.query::<Vec<u8>>(&["GET", &key]), answer.body);
    assert_eq!(mood.metric("mood_foreign_values_total"), 1.0);
}

#[test]
fn a_refreshed_mood_that_lost_its_expiry_stays_the_mood() {
    let redis = Redis::start();
    let mood = replica(&redis);
    let refreshed = mood.request("POST", "/refresh", &[]).json();
    redis.query::<()>(&["PERSIST", &redis.key("mood:")]);
    assert_eq!(mood.get("/mood").json(), refreshed);
    assert_eq!(redis.query::<i64>(&["EXPIRETIME", &redis.key("mood:")]), next_midnight_utc());
}

#[test]
fn password_and_database_of_the_url_are_used() {
    let redis = Redis::with(&["--requirepass", "s3cret"]);
    let url = format!("redis://:s3cret@127.0.0.1:{}/3", redis.port);
    let mood = Mood::with(&[("REDIS_URL", &url)]);
    assert_eq!(mood.get("/mood").header("x-cache"), "MISS");
    assert_eq!(mood.get("/mood").header("x-cache"), "HIT");
    let client = redis::Client::open(url).unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut client.get_connection().unwrap()).unwrap();
    assert_eq!(keys.len(), 1);
}

#[test]
fn a_wrong_password_degrades_and_is_never_shown() {
    let redis = Redis::with(&["--requirepass", "s3cret"]);
    let mood = Mood::with(&[("REDIS_URL", &format!("redis://:wr0ng@127.0.0.1:{}", redis.port))]);
    assert_eq!(mood.get("/mood").header("x-cache"), "BYPASS");
    let health = mood.get("/health");
    assert_eq!(health.status, 503);
    let shown = format!("{}{}{}", health.text(), mood.log().join(""), mood.get("/metrics").text());
    assert!(!shown.contains("wr0ng") && !shown.contains("s3cret"));
}
