//! Time zones by name or by rule, without any file: the image has none. No I/O.

use chrono::{DateTime, Datelike, NaiveDate};
use std::ops::RangeInclusive;

/// A zone's current rule per line, followed by the IANA names that share the rule: `CST-8 PRC,ROC Asia/Macau,Shanghai`.
/// tests/support/zones.py prints this table, and tests/zones.rs compares it with the tzdata of the machine.
const TABLE: &str = include_str!("zones.txt");

/// The accepted values of `TZ`.
pub const FORMS: &str = "an IANA name such as Europe/Berlin, US/Pacific or Etc/GMT+5, or a POSIX string such as \
                         CET-1CEST,M3.5.0,M10.5.0/3";

/// A rule as POSIX describes it for `TZ`, with the extension of RFC 8536, section 3.3.1: a clock change may be up to
/// 167 hours before or after its day begins.
#[derive(Debug, Clone, Copy)]
pub struct Zone {
    /// Seconds east of UTC.
    standard: i32,
    /// To summer time, and back.
    changes: Option<[Change; 2]>,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    day: YearDay,
    /// From the start of `day` in UTC to the change.
    seconds: i32,
    /// Seconds east of UTC, from this change on.
    offset: i32,
}

#[derive(Debug, Clone, Copy)]
enum YearDay {
    /// 1 to 365; 29 February is not counted.
    Julian(i32),
    /// 0 to 365; 29 February is counted.
    Ordinal(i32),
    /// In week 5, the last such weekday of the month. Weekday 0 is Sunday.
    Weekday { month: i32, week: i32, weekday: i32 },
}

impl Zone {
    /// Reads the value of `TZ`. A colon may precede the value, as POSIX has it for names.
    pub fn parse(tz: &str) -> Option<Zone> {
        let tz = tz.strip_prefix(':').unwrap_or(tz);
        // The name first: EST5EDT is also the beginning of a POSIX string.
        Text(rule_of(tz).unwrap_or(tz)).zone()
    }

    /// The offset at a Unix timestamp, in seconds east of UTC.
    pub fn offset_at(&self, timestamp: i64) -> i32 {
        let Some(changes) = self.changes else { return self.standard };
        let year = DateTime::from_timestamp(timestamp, 0).map_or(1970, |instant| instant.year());
        let mut latest = (i64::MIN, self.standard);
        // A change moved by 167 hours may fall into the next year or the previous one. Of two changes at the same
        // instant the last one holds, so summer time that ends where the next one begins never ends.
        for year in year - 2..=year + 1 {
            for change in changes {
                let at = change.timestamp(year);
                if at >= latest.0 && at <= timestamp {
                    latest = (at, change.offset);
                }
            }
        }
        latest.1
    }
}

impl Change {
    fn timestamp(self, year: i32) -> i64 {
        i64::from(self.day.in_year(year)) * 86_400 + i64::from(self.seconds)
    }
}

impl YearDay {
    /// In days since 1970-01-01.
    fn in_year(self, year: i32) -> i32 {
        match self {
            YearDay::Julian(day) if day < 60 => first_of(year, 1) + day - 1,
            YearDay::Julian(day) => first_of(year, 3) + day - 60,
            YearDay::Ordinal(day) => first_of(year, 1) + day,
            YearDay::Weekday { month, week, weekday } => {
                let first = first_of(year, month);
                let next = first_of(year + month / 12, month % 12 + 1);
                // 1970-01-01 was a Thursday.
                let day = first + (weekday - first - 4).rem_euclid(7) + 7 * (week - 1);
                if day < next { day } else { day - 7 }
            }
        }
    }
}

/// The first day of a month, in days since 1970-01-01.
fn first_of(year: i32, month: i32) -> i32 {
    NaiveDate::from_ymd_opt(year, month as u32, 1).map_or(0, |date| date.to_epoch_days())
}

/// The POSIX string of an IANA name.
fn rule_of(name: &str) -> Option<&'static str> {
    let (region, place) = region_and_rest(name);
    TABLE.lines().find_map(|line| {
        let (rule, names) = line.split_once(' ')?;
        let has_name = names
            .split(' ')
            .map(region_and_rest)
            .any(|(its_region, places)| its_region == region && places.split(',').any(|its_place| its_place == place));
        has_name.then_some(rule)
    })
}

/// Some names have no region, such as `GB`.
fn region_and_rest(name: &str) -> (Option<&str>, &str) {
    name.rsplit_once('/').map_or((None, name), |(region, rest)| (Some(region), rest))
}

/// The rest of a POSIX string. Each method takes one item off its start, or returns `None` if the item is not there.
struct Text<'a>(&'a str);

impl Text<'_> {
    fn zone(mut self) -> Option<Zone> {
        self.abbreviation()?;
        let standard = -self.time(24)?;
        if self.0.is_empty() {
            return Some(Zone { standard, changes: None });
        }
        self.abbreviation()?;
        let summer = if self.0.starts_with(',') { standard + 3600 } else { -self.time(24)? };
        let changes = Some([self.change(standard, summer)?, self.change(summer, standard)?]);
        self.0.is_empty().then_some(Zone { standard, changes })
    }

    /// Three or more letters, or in angle brackets letters, digits and signs.
    fn abbreviation(&mut self) -> Option<()> {
        let is_quoted = self.skip('<');
        let is_part = |c: char| c.is_ascii_alphabetic() || is_quoted && (c.is_ascii_digit() || matches!(c, '+' | '-'));
        (self.span(is_part).len() >= 3 && (!is_quoted || self.skip('>'))).then_some(())
    }

    /// `,DAY[/TIME]`; a rule's time is the local one before the change.
    fn change(&mut self, before: i32, after: i32) -> Option<Change> {
        self.skip(',').then_some(())?;
        let day = if self.skip('M') {
            let month = self.number(1..=12)?;
            let week = self.skip('.').then(|| self.number(1..=5))??;
            let weekday = self.skip('.').then(|| self.number(0..=6))??;
            YearDay::Weekday { month, week, weekday }
        } else if self.skip('J') {
            YearDay::Julian(self.number(1..=365)?)
        } else {
            YearDay::Ordinal(self.number(0..=365)?)
        };
        let time = if self.skip('/') { self.time(167)? } else { 2 * 3600 };
        Some(Change { day, seconds: time - before, offset: after })
    }

    /// `[+-]HOURS[:MINUTES[:SECONDS]]`, in seconds.
    fn time(&mut self, most_hours: i32) -> Option<i32> {
        let sign = if self.skip('-') { -1 } else { 1 };
        if sign == 1 {
            self.skip('+');
        }
        let mut seconds = 3600 * self.number(0..=most_hours)?;
        for unit in [60, 1] {
            if !self.skip(':') {
                break;
            }
            seconds += unit * self.number(0..=59)?;
        }
        Some(sign * seconds)
    }

    fn number(&mut self, range: RangeInclusive<i32>) -> Option<i32> {
        self.span(|c| c.is_ascii_digit()).parse().ok().filter(|number| range.contains(number))
    }

    fn skip(&mut self, expected: char) -> bool {
        let rest = self.0.strip_prefix(expected);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// As many of these characters as follow.
    fn span(&mut self, is_part: impl Fn(char) -> bool) -> &str {
        let end = self.0.find(|c| !is_part(c)).unwrap_or(self.0.len());
        let (span, rest) = self.0.split_at(end);
        self.0 = rest;
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offset in hours at a time in UTC.
    fn hours(tz: &str, instant: &str) -> f64 {
        let instant: DateTime<chrono::Utc> = instant.parse().unwrap();
        f64::from(Zone::parse(tz).unwrap().offset_at(instant.timestamp())) / 3600.0
    }

    #[test]
    fn a_name_a_name_after_a_colon_and_the_name_s_rule_are_the_same_zone() {
        for tz in ["Europe/Berlin", ":Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3", ":CET-1CEST,M3.5.0,M10.5.0/3"] {
            assert_eq!(hours(tz, "2026-03-29T00:59:59Z"), 1.0, "{tz}");
            assert_eq!(hours(tz, "2026-03-29T01:00:00Z"), 2.0, "{tz}");
            assert_eq!(hours(tz, "2026-10-25T00:59:59Z"), 2.0, "{tz}");
            assert_eq!(hours(tz, "2026-10-25T01:00:00Z"), 1.0, "{tz}");
        }
    }

    #[test]
    fn aliases_and_names_without_a_region_or_with_two_are_known() {
        for (tz, winter) in [
            ("US/Pacific", -8.0),
            ("GB", 0.0),
            ("Etc/GMT+5", -5.0),
            ("EST5EDT", -5.0),
            ("America/Argentina/Buenos_Aires", -3.0),
            ("Asia/Kathmandu", 5.75),
            ("America/St_Johns", -3.5),
        ] {
            assert_eq!(hours(tz, "2027-01-15T00:00:00Z"), winter, "{tz}");
        }
    }

    #[test]
    fn an_hour_beyond_the_day_moves_the_date() {
        // Jerusalem: Friday before the last Sunday of March, 2:00, written as 26 o'clock of Thursday.
        assert_eq!(hours("IST-2IDT,M3.4.4/26,M10.5.0", "2027-03-25T23:59:59Z"), 2.0);
        assert_eq!(hours("IST-2IDT,M3.4.4/26,M10.5.0", "2027-03-26T00:00:00Z"), 3.0);
        // Nuuk: Saturday, 23:00, written as -1 o'clock of Sunday.
        assert_eq!(hours("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "2027-03-28T00:59:59Z"), -2.0);
        assert_eq!(hours("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "2027-03-28T01:00:00Z"), -1.0);
        // Into the next year: 31 December and 167 hours, so 6 January, 23:00.
        assert_eq!(hours("XXX0YYY,J365/167,J60/0", "2027-01-06T22:59:59Z"), 0.0);
        assert_eq!(hours("XXX0YYY,J365/167,J60/0", "2027-01-06T23:00:00Z"), 1.0);
    }

    #[test]
    fn days_of_the_year_are_counted_with_and_without_29_february() {
        for (rule, change) in [
            ("J59/0", "2028-02-28T00:00:00Z"),
            ("J60/0", "2028-03-01T00:00:00Z"),
            ("J60/0", "2027-03-01T00:00:00Z"),
            ("59/0", "2028-02-29T00:00:00Z"),
            ("59/0", "2027-03-01T00:00:00Z"),
            ("M2.5.2/0", "2028-02-29T00:00:00Z"),
            ("M2.5.0/0", "2027-02-28T00:00:00Z"),
            ("M12.5.5/0", "2027-12-31T00:00:00Z"),
        ] {
            let change: DateTime<chrono::Utc> = change.parse().unwrap();
            let zone = Zone::parse(&format!("XXX0YYY,{rule},J180")).unwrap();
            let before = zone.offset_at(change.timestamp() - 1);
            assert_eq!((before, zone.offset_at(change.timestamp())), (0, 3600), "{rule}");
        }
    }

    #[test]
    fn summer_time_may_last_all_year_be_negative_or_name_its_offset() {
        for instant in ["2026-12-31T23:00:00Z", "2027-01-01T05:00:00Z", "2027-07-01T00:00:00Z"] {
            assert_eq!(hours("EST5EDT,0/0,J365/25", instant), -4.0);
        }
        assert_eq!(hours("IST-1GMT0,M10.5.0,M3.5.0/1", "2027-01-01T00:00:00Z"), 0.0);
        assert_eq!(hours("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "2027-01-01T00:00:00Z"), 11.0);
        assert_eq!(hours("XXX-1:02:03", "2027-01-01T00:00:00Z") * 3600.0, 3723.0);
    }

    #[test]
    fn everything_else_is_rejected() {
        for tz in [
            "", ":", "/", "/GB", "Europe", "Europe/", "Europe/Nowhere", "europe/berlin", "Europe/Berlin,Paris",
            "Berlin", "CST-8 PRC", "GB,GB-Eire", "/usr/share/zoneinfo/Europe/Berlin", "CE-1", "<+1>-1", "<+05-5",
            "XXX", "XXX25", "XXX1:60", "XXX0:0:0:0", "XXX0!", "XXX0YYY", "XXX0YYY,M3.5.0", "XXX0YYY,nonsense",
            "XXX0YYY,M13.1.0,M10.5.0", "XXX0YYY,M3.6.0,M10.5.0", "XXX0YYY,M3.5.7,M10.5.0", "XXX0YYY,J0,J1",
            "XXX0YYY,366,1", "XXX0YYY,1/168,2", "XXX0YYY,M3.5,M10.5.0", "XXX0YYY,1,2,3", "XXX--1", "XXX-+1",
            "XXX0YYY,1/,2",
        ] {
            assert!(Zone::parse(tz).is_none(), "{tz}");
        }
    }

    #[test]
    fn every_rule_of_the_table_is_valid() {
        assert!(TABLE.lines().count() > 80);
        for line in TABLE.lines() {
            assert!(Text(line.split(' ').next().unwrap()).zone().is_some(), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_rejected(tz in "\\PC{0,30}|XXX[-+]?[0-9:]{1,5}(YYY[,./JM0-9+-]{0,20})?", timestamp: i64) {
            if let Some(zone) = Zone::parse(&tz) {
                proptest::prop_assert!(zone.offset_at(timestamp).abs() <= 26 * 3600);
            }
        }
    }
}
