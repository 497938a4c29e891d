//! Days in a time zone: which one it is, when it ends, and whether `TZ` was understood. Pure; the instant and the
//! zone are arguments.

use chrono::{DateTime, Duration, NaiveDate, Offset, TimeZone, Utc};

/// A local calendar day and the instant it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    pub date: NaiveDate,
    /// The first instant of the next local day: the absolute expiry of all that is cached for this one.
    pub ends_at: DateTime<Utc>,
}

impl Day {
    /// The day that `now` falls in.
    ///
    /// Its end is found by bisection over instants, not by adding up hours: so it is right on days of 23 and 25
    /// hours, and where a clock change skips midnight itself.
    pub fn at<Z: TimeZone>(now: DateTime<Utc>, zone: &Z) -> Day {
        let date = now.with_timezone(zone).date_naive();
        let ended = |instant: DateTime<Utc>| instant.with_timezone(zone).date_naive() > date;
        // Clock changes happen on whole seconds, so all searched instants are whole seconds.
        let mut before = now.timestamp();
        let mut after = before + Duration::hours(50).num_seconds();
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if ended(at_second(middle)) { after = middle } else { before = middle }
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

/// Whether `zone` behaves as the text of `TZ` says it must.
///
/// chrono reads `TZ` by itself and falls back to UTC without a word when it does not understand it, so this looks at
/// what came out: a POSIX string (`CET-1CEST,M3.5.0,M10.5.0/3`) names its own offset, and an IANA name is only
/// believed if `is_zone_file` finds it.
///
/// # Errors
/// One clause that says what was not understood.
pub fn check_zone<Z: TimeZone>(tz: &str, zone: &Z, is_zone_file: impl Fn(&str) -> bool) -> Result<(), &'static str> {
    let name = tz.strip_prefix(':').unwrap_or(tz);
    if matches!(name, "UTC" | "GMT" | "Etc/UTC") || is_zone_file(name) {
        return Ok(());
    }
    let Some(PosixZone { seconds_east, has_summer_time }) = PosixZone::parse(name) else {
        return Err("it is neither a POSIX string nor a zone file that exists here");
    };
    // Thirteen months from the first of 2026: both halves of a year, whatever the hemisphere.
    let offsets: Vec<i32> = (0..13)
        .map(|month| at_second(1_767_225_600 + month * 30 * 86_400))
        .map(|instant| zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc())
        .collect();
    let understood = match has_summer_time {
        true => offsets.iter().any(|seconds| *seconds != 0),
        false => offsets.iter().all(|seconds| *seconds == seconds_east),
    };
    if understood { Ok(()) } else { Err("its rule for summer time or its offset is not a valid one") }
}

/// The beginning of a POSIX `TZ` string: `std offset [dst …]` (POSIX.1-2017, section 8.3).
struct PosixZone {
    seconds_east: i32,
    has_summer_time: bool,
}

impl PosixZone {
    fn parse(text: &str) -> Option<PosixZone> {
        let rest = Self::after_abbreviation(text)?;
        let end = rest.find(|c: char| !matches!(c, '+' | '-' | ':' | '0'..='9')).unwrap_or(rest.len());
        let (offset, rest) = rest.split_at(end);
        let (sign, digits) = match offset.strip_prefix('-') {
            Some(digits) => (1, digits),
            None => (-1, offset.strip_prefix('+').unwrap_or(offset)),
        };
        let mut seconds = 0;
        for (unit, part) in [3600, 60, 1].into_iter().zip(digits.split(':').chain(["0", "0"])) {
            seconds += unit * part.parse::<i32>().ok().filter(|value| (0..60).contains(value))?;
        }
        if digits.split(':').count() > 3 || !(rest.is_empty() || Self::after_abbreviation(rest).is_some()) {
            return None;
        }
        Some(PosixZone { seconds_east: sign * seconds, has_summer_time: !rest.is_empty() })
    }

    /// What follows the zone's abbreviation: three or more letters, or anything in angle brackets.
    fn after_abbreviation(text: &str) -> Option<&str> {
        if let Some(quoted) = text.strip_prefix('<') {
            return quoted.split_once('>').filter(|(name, _)| name.len() >= 3).map(|(_, rest)| rest);
        }
        let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
        (end >= 3).then(|| &text[end..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{FixedOffset, Local};
    use proptest::prelude::*;

    /// chrono reads the process's `TZ`, so every test of this module uses the same one.
    fn berlin() -> Local {
        static ONCE: std::sync::Once = std::sync::Once::new();
        // SAFETY: once, and no other test of this binary reads or writes the environment.
        ONCE.call_once(|| unsafe { std::env::set_var("TZ", "CET-1CEST,M3.5.0,M10.5.0/3") });
        Local
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn days_of_23_and_25_hours_end_at_local_midnight() {
        let spring = Day::at(utc("2026-03-28T23:00:00Z"), &berlin());
        assert_eq!((spring.date.to_string(), spring.ends_at), ("2026-03-29".into(), utc("2026-03-29T22:00:00Z")));
        let autumn = Day::at(utc("2026-10-24T22:00:00Z"), &berlin());
        assert_eq!((autumn.date.to_string(), autumn.ends_at), ("2026-10-25".into(), utc("2026-10-25T23:00:00Z")));
    }

    #[test]
    fn a_zone_is_checked_against_what_chrono_made_of_it() {
        let no_files = |_: &str| false;
        let east = |seconds| FixedOffset::east_opt(seconds).unwrap();
        assert!(check_zone("UTC", &Utc, no_files).is_ok());
        assert!(check_zone("UTC0", &Utc, no_files).is_ok());
        assert!(check_zone("XXX-1:02:03", &east(3723), no_files).is_ok());
        assert!(check_zone("<+05>-5", &east(18_000), no_files).is_ok());
        assert!(check_zone("CET-1CEST,M3.5.0,M10.5.0/3", &berlin(), no_files).is_ok());
        assert!(check_zone("Europe/Berlin", &Utc, |name| name == "Europe/Berlin").is_ok());
        for misread in ["Europe/Nowhere", "XXX-1", "GMT0BST,nonsense", "CET", "C-1", "UTC0:0:0:0", "UTC0!", "", "UTC99"]
        {
            assert!(check_zone(misread, &Utc, no_files).is_err(), "{misread}");
        }
    }

    proptest! {
        #[test]
        fn the_time_to_midnight_is_in_0_to_25_hours(timestamp in 0i64..7_258_118_400, nanos in 0u32..1_000_000_000) {
            let now = DateTime::from_timestamp(timestamp, nanos).unwrap();
            let day = Day::at(now, &berlin());
            let left = day.ends_at - now;
            prop_assert!(left > Duration::zero() && left <= Duration::hours(25), "{left}");
            prop_assert_eq!(day.ends_at.with_timezone(&berlin()).date_naive(), day.date.succ_opt().unwrap());
        }
    }
}
