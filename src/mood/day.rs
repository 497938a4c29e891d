//! Local days and their ends. No I/O: the instant and the zone's offsets are arguments.

use chrono::{DateTime, NaiveDate, Utc};

const DAY: i64 = 86_400;
/// Longer than any local day: 24 hours and one clock change, which is below 50 hours as offsets are below 25.
const LONGEST: i64 = 75 * 3600;

/// A local calendar day and the instant it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    pub date: NaiveDate,
    /// The first instant of the next local day, when everything that is cached for this one expires.
    pub ends_at: DateTime<Utc>,
}

impl Day {
    /// The day that `now` falls in. `offset_at` maps a Unix timestamp to seconds east of UTC (`Zone::offset_at`).
    ///
    /// The end is found by bisection over instants, not by adding up hours. The result is therefore right on days of
    /// 23 and 25 hours, and where a clock change skips midnight itself.
    pub fn at(now: DateTime<Utc>, offset_at: impl Fn(i64) -> i32) -> Day {
        let local = |timestamp| timestamp + i64::from(offset_at(timestamp));
        let number = |timestamp| local(timestamp).div_euclid(DAY);
        // Clock changes happen on whole seconds, so all searched instants are whole seconds.
        let mut before = now.timestamp();
        let today = number(before);
        let date = at_second(local(before)).date_naive();
        let mut after = before + LONGEST;
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if number(middle) > today { after = middle } else { before = middle }
        }
        Day { date, ends_at: at_second(after) }
    }

    /// Whether `now` still falls in this day, given that it is not before the day's start.
    pub fn contains(&self, now: DateTime<Utc>) -> bool {
        now < self.ends_at
    }
}

fn at_second(timestamp: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(timestamp, 0).expect("a few days from a valid instant is a valid instant")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mood::zone::Zone;
    use chrono::Duration;
    use proptest::prelude::*;

    fn day_in(tz: &str, now: DateTime<Utc>) -> Day {
        Day::at(now, |timestamp| Zone::parse(tz).unwrap().offset_at(timestamp))
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn days_of_23_and_25_hours_end_at_local_midnight() {
        let spring = day_in("Europe/Berlin", utc("2026-03-28T23:00:00Z"));
        assert_eq!((spring.date.to_string(), spring.ends_at), ("2026-03-29".into(), utc("2026-03-29T22:00:00Z")));
        let autumn = day_in("Europe/Berlin", utc("2026-10-24T22:00:00Z"));
        assert_eq!((autumn.date.to_string(), autumn.ends_at), ("2026-10-25".into(), utc("2026-10-25T23:00:00Z")));
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_or_repeated_begins_at_the_first_instant() {
        // Beirut skips 0:00 in spring. Havana repeats the hour from 0:00 in autumn.
        assert_eq!(day_in("Asia/Beirut", utc("2027-03-27T12:00:00Z")).ends_at, utc("2027-03-27T22:00:00Z"));
        assert_eq!(day_in("Asia/Beirut", utc("2027-03-27T22:00:00Z")).ends_at, utc("2027-03-28T21:00:00Z"));
        assert_eq!(day_in("America/Havana", utc("2027-11-06T12:00:00Z")).ends_at, utc("2027-11-07T04:00:00Z"));
        assert_eq!(day_in("America/Havana", utc("2027-11-07T04:00:00Z")).ends_at, utc("2027-11-08T05:00:00Z"));
    }

    #[test]
    fn the_widest_clock_changes_still_end_a_day() {
        let zone = Zone::parse("XXX-24:59:59YYY24:59:59,J10/0,J200/0").unwrap();
        for day in 0..366 {
            let now = utc("2027-01-01T00:00:00Z") + Duration::days(day);
            let ends_at = Day::at(now, |timestamp| zone.offset_at(timestamp)).ends_at;
            let local = |instant: DateTime<Utc>| instant.timestamp() + i64::from(zone.offset_at(instant.timestamp()));
            assert!(local(ends_at).div_euclid(DAY) > local(now).div_euclid(DAY), "{now}");
        }
    }

    proptest! {
        #[test]
        fn the_time_to_midnight_is_in_0_to_25_hours(timestamp in 0i64..7_258_118_400, nanos in 0u32..1_000_000_000) {
            let now = DateTime::from_timestamp(timestamp, nanos).unwrap();
            let day = day_in("Europe/Berlin", now);
            let left = day.ends_at - now;
            prop_assert!(left > Duration::zero() && left <= Duration::hours(25), "{left}");
            prop_assert_eq!(day_in("Europe/Berlin", day.ends_at).date, day.date.succ_opt().unwrap());
        }
    }
}
