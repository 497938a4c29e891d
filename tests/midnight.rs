//! The end of the day, without a fake clock: a zone whose midnight is a few seconds ahead.

mod support;

use rstest::rstest;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Mood, Redis, within};

/// A POSIX zone in which the local day ends `seconds` from now.
fn zone_with_midnight_in(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    // East of UTC by as much as UTC is short of a midnight at that time; POSIX counts westwards.
    let east = (86_400 - (now + seconds) % 86_400) % 86_400;
    let (sign, offset) = if east <= 43_200 { ("-", east) } else { ("", 86_400 - east) };
    format!("XXX{sign}{}:{:02}:{:02}", offset / 3600, offset / 60 % 60, offset % 60)
}

#[rstest]
fn a_new_day_begins_at_local_midnight_and_the_old_key_is_gone(#[values(true, false)] has_redis: bool) {
    let redis = Redis::start();
    let zone = zone_with_midnight_in(5);
    let url = if has_redis { redis.url() } else { String::new() };
    let mood = Mood::with(&[("TZ", &zone), ("REDIS_URL", &url)]);
    let began = SystemTime::now();
    let before = mood.request("POST", "/refresh", &[]).json();
    assert_eq!(before["refreshed"], 1);
    if has_redis {
        let ttl: i64 = redis.query(&["PTTL", &redis.key("mood:")]);
        assert!((1..=5000).contains(&ttl), "{ttl}");
    }
    let after = within(Duration::from_secs(8), "the day changes", || {
        let now = mood.get("/mood").json();
        (now["date"] != before["date"]).then_some(now)
    });
    assert!(began.elapsed().unwrap() > Duration::from_secs(3), "too early");
    assert_eq!(after["refreshed"], 0);
    assert_ne!(after["mood"], serde_json::Value::Null);
    if has_redis {
        // Redis lets a key go once its last millisecond is over, and the answer came in that one.
        thread::sleep(Duration::from_millis(2));
        assert_eq!(redis.key("mood:"), format!("mood:{}", after["date"].as_str().unwrap()));
    }
}
