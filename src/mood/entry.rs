//! The day's mood as stored and served: one JSON text, the same bytes for all clients. No I/O.

use crate::mood::catalogue::{self as mood, Mood};
use chrono::NaiveDate;
use serde::Deserialize;

#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub date: NaiveDate,
    pub mood: &'static Mood,
    /// How often the day's mood has been refreshed.
    pub refreshed: u64,
    /// The stored value, and the body of `GET /mood`.
    pub json: String,
}

/// The parts of an entry that do not follow from the catalogue.
#[derive(Deserialize)]
struct Stored {
    date: String,
    mood: String,
    refreshed: u64,
}

impl Entry {
    /// The entry of a day without a refresh.
    pub fn of_day(date: NaiveDate) -> Entry {
        Entry::new(date, mood::of_date(date), 0)
    }

    /// The entry after `current`: another mood, the same day.
    pub fn refreshed(current: &Entry, random: &mut fastrand::Rng) -> Entry {
        Entry::new(current.date, mood::other_than(current.mood, random), current.refreshed.saturating_add(1))
    }

    fn new(date: NaiveDate, mood: &'static Mood, refreshed: u64) -> Entry {
        // A test makes sure that no text of the catalogue needs escaping.
        let json = format!(
            r#"{{"date":"{date}","mood":"{}","emoji":"{}","message":"{}","gif":"/gif/{}.gif","refreshed":{refreshed}}}"#,
            mood.name,
            mood.emoji,
            mood.message,
            mood.gif_name(),
        );
        Entry { date, mood, refreshed, json }
    }

    /// A strong ETag: it differs between any two entries with different JSON.
    pub fn etag(&self) -> String {
        format!("\"{}-{}-{:08x}\"", self.date, self.refreshed, self.mood.gif_version)
    }

    /// Parses a stored value of the day `date`, written by this or another version of the service.
    ///
    /// # Errors
    /// One clause: why this is no entry of that day.
    pub fn parse(bytes: &[u8], date: NaiveDate) -> Result<Entry, &'static str> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| "it is not an entry in JSON")?;
        let mood = mood::CATALOGUE.iter().find(|mood| mood.name == stored.mood);
        let mood = mood.ok_or("its mood is not in the catalogue")?;
        if stored.date != date.to_string() {
            return Err("it is of another day");
        }
        Ok(Entry::new(date, mood, stored.refreshed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::damaged;
    use proptest::prelude::*;

    fn date() -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, 24).unwrap()
    }

    #[test]
    fn every_mood_is_written_as_json_and_read_back() {
        for mood in &mood::CATALOGUE {
            let entry = Entry::new(date(), mood, 3);
            let value: serde_json::Value = serde_json::from_str(&entry.json).unwrap();
            assert_eq!(value["message"], mood.message);
            assert_eq!(Entry::parse(entry.json.as_bytes(), date()).unwrap(), entry);
        }
    }

    #[test]
    fn a_value_of_another_day_is_not_ours() {
        let entry = Entry::of_day(date());
        assert!(Entry::parse(entry.json.as_bytes(), date().succ_opt().unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_from_any_bytes_is_an_entry_of_the_day_or_nothing(random: Vec<u8>, foreign in damaged("values"), at in 0usize..100, bit in 0u8..8) {
            prop_assert!(Entry::parse(&random, date()).is_err());
            let mut ours = Entry::of_day(date()).json.into_bytes();
            ours[at] ^= 1 << bit;
            for bytes in [foreign, ours] {
                if let Ok(entry) = Entry::parse(&bytes, date()) {
                    prop_assert_eq!(entry.date, date());
                }
            }
        }
    }
}
