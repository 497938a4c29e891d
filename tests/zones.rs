//! src/mood/zones.txt compared with the tzdata of this machine, as Python's zoneinfo reads it.

use chrono::{DateTime, Utc};
use mood::mood::day::Day;
use mood::mood::zone::Zone;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::process::Command;

/// The tzdata that src/mood/zones.txt was printed from.
const TABLE_VERSION: &str = "2026f";
const TEN_YEARS: i64 = 3652 * 86_400;

/// Days of `names` that begin within `dates` may differ.
struct Exception {
    names: &'static str,
    dates: Range<&'static str>,
    /// Applies only to a tzdata older than this one.
    tzdata_before: &'static str,
}

const FOREVER: &str = "9999-01-01";
const ANY: &str = "9999a";

const EXCEPTIONS: [Exception; 9] = [
    // Cuba stays on summer time for one winter.
    Exception { names: "America/Havana Cuba", dates: "2026-11-01".."2027-03-15", tzdata_before: ANY },
    // tzdata predicts clock changes for Ramadan.
    Exception { names: "Asia/Gaza Asia/Hebron", dates: "2036-10-01"..FOREVER, tzdata_before: ANY },
    // The rest are changes of law that an older tzdata does not have. In Morocco, the end of clock changes for Ramadan:
    Exception { names: "Africa/Casablanca Africa/El_Aaiun", dates: "2026-09-20"..FOREVER, tzdata_before: "2026c" },
    // In Canada, summer time for all year:
    Exception {
        names: "America/Winnipeg America/Rainy_River Canada/Central",
        dates: "2026-11-01"..FOREVER,
        tzdata_before: "2026e",
    },
    Exception { names: "America/Inuvik", dates: "2026-11-01"..FOREVER, tzdata_before: "2026d" },
    Exception {
        names: "America/Edmonton America/Yellowknife Canada/Mountain",
        dates: "2026-11-01"..FOREVER,
        tzdata_before: "2026c",
    },
    Exception { names: "America/Vancouver Canada/Pacific", dates: "2026-11-01"..FOREVER, tzdata_before: "2026b" },
    // Elsewhere:
    Exception { names: "America/Asuncion", dates: "2025-03-23"..FOREVER, tzdata_before: "2025a" },
    Exception {
        names: "America/Scoresbysund Antarctica/Casey Antarctica/Vostok Asia/Almaty Asia/Qostanay",
        dates: "2023-12-18"..FOREVER,
        tzdata_before: "2024a",
    },
];

impl Exception {
    fn covers(&self, name: &str, instant: i64, tzdata: &str) -> bool {
        let date = utc(instant).date_naive().to_string();
        self.names.split(' ').any(|listed| listed == name)
            && self.dates.contains(&date.as_str())
            && tzdata < self.tzdata_before
    }
}

fn utc(timestamp: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(timestamp, 0).unwrap()
}

fn zones_py(arguments: &[&str]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/zones.py");
    let output = Command::new("python3").arg(script).args(arguments).output().expect("python3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Names, and the instants at which their days begin, as Python computes them.
fn expected_midnights(start: i64, end: i64) -> Vec<(Vec<String>, Vec<i64>)> {
    let mut midnights = Vec::new();
    for line in zones_py(&["midnights", &start.to_string(), &end.to_string()]).lines() {
        let (names, numbers) = line.split_once(" : ").unwrap();
        let (first, runs) = numbers.split_once(' ').unwrap();
        let mut instant: i64 = first.parse().unwrap();
        let mut instants = vec![instant];
        for run in runs.split(' ') {
            let (length, count) = run.split_once('x').unwrap();
            for _ in 0..count.parse().unwrap() {
                instant += length.parse::<i64>().unwrap();
                instants.push(instant);
            }
        }
        midnights.push((names.split(' ').map(str::to_owned).collect(), instants));
    }
    midnights
}

fn own_midnights(name: &str, start: i64, end: i64) -> Vec<i64> {
    let zone = Zone::parse(name).unwrap();
    let next = |instant: &i64| {
        let day = Day::at(utc(*instant), |timestamp| zone.offset_at(timestamp));
        Some(day.ends_at.timestamp()).filter(|instant| *instant <= end)
    };
    std::iter::successors(next(&start), next).collect()
}

/// The instants at which a day begins in only one of the two, without those that an exception covers.
fn unlisted_differences(name: &str, own: &[i64], expected: &[i64], tzdata: &str) -> Vec<i64> {
    if own == expected {
        return Vec::new();
    }
    let [own, expected] = [own, expected].map(|instants| instants.iter().copied().collect::<BTreeSet<_>>());
    let is_listed = |instant| EXCEPTIONS.iter().any(|exception| exception.covers(name, instant, tzdata));
    own.symmetric_difference(&expected).copied().filter(|instant| !is_listed(*instant)).collect()
}

/// Name → POSIX string.
fn rules(table: &str) -> BTreeMap<String, String> {
    let mut rules = BTreeMap::new();
    for line in table.lines() {
        let (rule, names) = line.split_once(' ').unwrap();
        for group in names.split(' ') {
            let (region, places) = group.split_at(group.rfind('/').map_or(0, |slash| slash + 1));
            for place in places.split(',') {
                let other = rules.insert(format!("{region}{place}"), rule.to_owned());
                assert_eq!(other, None, "{region}{place} is listed twice");
            }
        }
    }
    rules
}

fn assert_none(differences: &[String], tzdata: &str) {
    assert!(
        differences.is_empty(),
        "tzdata {tzdata} and the table of {TABLE_VERSION} differ. If tzdata is newer, print the table again \
         (python3 tests/support/zones.py table > src/mood/zones.txt) and set TABLE_VERSION.\n{}",
        differences.join("\n")
    );
}

#[test]
fn every_name_has_the_midnights_of_tzdata_for_ten_years() {
    let tzdata = zones_py(&["version"]);
    let start = Utc::now().timestamp();
    let end = start + TEN_YEARS;
    let rules = rules(include_str!("../src/mood/zones.txt"));
    let mut own_by_rule = BTreeMap::new();
    let mut differences = Vec::new();
    for (names, expected) in expected_midnights(start, end) {
        for name in names {
            let Some(rule) = rules.get(&name) else {
                differences.push(format!("{name} is missing from the table"));
                continue;
            };
            let own = own_by_rule.entry(rule).or_insert_with(|| own_midnights(&name, start, end));
            let wrong = unlisted_differences(&name, own, &expected, &tzdata);
            if let (Some(first), Some(last)) = (wrong.first(), wrong.last()) {
                let (count, first, last) = (wrong.len(), utc(*first), utc(*last));
                differences.push(format!("{name} ({rule}): {count} starts of a day, from {first} to {last}"));
            }
        }
    }
    assert_none(&differences, &tzdata);
}

/// Also the parts of a rule that no midnight depends on, such as the hour of a change at night.
#[test]
fn every_rule_is_that_of_the_tzdata_that_the_table_was_printed_from() {
    let tzdata = zones_py(&["version"]);
    if tzdata != TABLE_VERSION {
        return;
    }
    let own = rules(include_str!("../src/mood/zones.txt"));
    let expected = rules(&zones_py(&["table"]));
    // Some distributions keep the names of the file `backward` in a package of their own.
    let has_all_names = expected.contains_key("US/Pacific");
    let names: BTreeSet<_> = own.keys().filter(|_| has_all_names).chain(expected.keys()).collect();
    let differences: Vec<_> = names
        .iter()
        .map(|name| (name, own.get(*name), expected.get(*name)))
        .filter(|(_, own, expected)| own != expected)
        .map(|(name, own, expected)| format!("{name}: {own:?} in the table, {expected:?} in tzdata"))
        .collect();
    assert_none(&differences, &tzdata);
}
