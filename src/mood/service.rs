//! The mood of today: combines clock, store and catalogue, and defines hit, miss, bypass and refresh.

use crate::lock::lock;
use crate::mood::catalogue::{Mood, fnv1a};
use crate::mood::day::Day;
use crate::mood::entry::Entry;
use crate::mood::zone::Zone;
use crate::observability::metrics::Metrics;
use crate::store::{Store, StoreError, StoredValue};
use chrono::{DateTime, Utc};
use std::sync::{Arc, Mutex};

/// The source of a response, as in the header `X-Cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// The store had it.
    Hit,
    /// The store had no valid value, and has one now.
    Miss,
    /// The store is unavailable. This replica computed the value.
    Bypass,
}

impl Cache {
    pub fn label(self) -> &'static str {
        match self {
            Cache::Hit => "hit",
            Cache::Miss => "miss",
            Cache::Bypass => "bypass",
        }
    }

    pub fn header(self) -> &'static str {
        match self {
            Cache::Hit => "HIT",
            Cache::Miss => "MISS",
            Cache::Bypass => "BYPASS",
        }
    }
}

/// The content version of a mood's GIF, and whether it is the still one.
type GifKey = (u32, bool);

pub struct Service {
    store: Box<dyn Store>,
    metrics: Arc<Metrics>,
    zone: Zone,
    day: Mutex<Option<(DateTime<Utc>, Day)>>,
    /// The last entry. While the store returns the same bytes, they are not parsed again.
    last: Mutex<Option<Arc<Entry>>>,
    /// Each GIF that was requested so far. The version identifies the content, so none can become stale. All 56 take 1 MB.
    gifs: Mutex<Vec<(GifKey, Arc<[u8]>)>>,
}

impl Service {
    pub fn new(store: Box<dyn Store>, metrics: Arc<Metrics>, zone: Zone) -> Service {
        Service { store, metrics, zone, day: Mutex::default(), last: Mutex::default(), gifs: Mutex::default() }
    }

    /// The mood of today, the same for all replicas. Never fails: without a store, this replica computes it.
    pub fn today(&self) -> (Arc<Entry>, Cache) {
        let day = self.day();
        let answer = self.read_mood(day).unwrap_or_else(|_| (self.keep(Entry::of_day(day.date)), Cache::Bypass));
        self.metrics.answered();
        answer
    }

    fn read_mood(&self, day: Day) -> Result<(Arc<Entry>, Cache), StoreError> {
        let key = mood_key(day);
        match self.store.get(&key)? {
            Some(found) => match self.judge(&found, day) {
                Ok(entry) => return Ok((entry, Cache::Hit)),
                Err(why) => self.report_foreign(&key, why),
            },
            None => {
                let own = Entry::of_day(day.date);
                let there = self.store.put_if_absent(&key, own.json.as_bytes(), day.ends_at)?;
                match there {
                    None => return Ok((self.keep(own), Cache::Miss)),
                    // Another replica was faster, and its value is valid for all replicas.
                    Some(bytes) => match self.judge(&StoredValue { bytes, expires: true }, day) {
                        Ok(entry) => return Ok((entry, Cache::Miss)),
                        Err(why) => self.report_foreign(&key, why),
                    },
                }
            }
        }
        Ok((self.repair(&key, day)?, Cache::Miss))
    }

    /// Replaces an invalid value unless another replica already has. A refreshed mood that only lost its expiry is kept.
    fn repair(&self, key: &str, day: Day) -> Result<Arc<Entry>, StoreError> {
        let mut result = Entry::of_day(day.date);
        self.store.update(key, day.ends_at, &mut |found| {
            let entry = found.and_then(|found| Entry::parse(&found.bytes, day.date).ok());
            result = entry.unwrap_or_else(|| Entry::of_day(day.date));
            let is_ours = found.is_some_and(|found| found.expires && found.bytes == result.json.as_bytes());
            (!is_ours).then(|| result.json.clone().into_bytes())
        })?;
        Ok(self.keep(result))
    }

    /// Replaces the mood of today for all replicas, until midnight.
    ///
    /// # Errors
    /// The store is unavailable. A replacement in only one replica would be inconsistent.
    pub fn refresh(&self) -> Result<Arc<Entry>, StoreError> {
        let day = self.day();
        let mut replacement = None;
        self.store.update(&mood_key(day), day.ends_at, &mut |found| {
            let current = found.and_then(|found| Entry::parse(&found.bytes, day.date).ok());
            let current = current.unwrap_or_else(|| Entry::of_day(day.date));
            let next = Entry::refreshed(&current, &mut fastrand::Rng::new());
            let bytes = next.json.clone().into_bytes();
            replacement = Some(next);
            Some(bytes)
        })?;
        self.metrics.refreshes.inc();
        self.metrics.answered();
        Ok(self.keep(replacement.expect("an update calls its change")))
    }

    /// A mood's animated GIF, drawn once for all replicas.
    pub fn gif(&self, mood: &'static Mood) -> (Arc<[u8]>, Cache) {
        let key = (mood.gif_version, false);
        if let Some(bytes) = self.kept_gif(key) {
            return (bytes, Cache::Hit);
        }
        let (bytes, cache) = match self.read_gif(mood) {
            Ok(answer) => answer,
            Err(_) => (crate::mood::gif::animated(mood), Cache::Bypass),
        };
        (self.keep_gif(key, bytes), cache)
    }

    /// A mood's still GIF, drawn once per replica. One frame is not worth a key in the store.
    pub fn still_gif(&self, mood: &'static Mood) -> Arc<[u8]> {
        let key = (mood.gif_version, true);
        self.kept_gif(key).unwrap_or_else(|| self.keep_gif(key, crate::mood::gif::still(mood)))
    }

    fn kept_gif(&self, key: GifKey) -> Option<Arc<[u8]>> {
        lock(&self.gifs).iter().find(|(known, _)| *known == key).map(|(_, bytes)| Arc::clone(bytes))
    }

    fn keep_gif(&self, key: GifKey, bytes: Vec<u8>) -> Arc<[u8]> {
        let bytes: Arc<[u8]> = bytes.into();
        let mut gifs = lock(&self.gifs);
        // Another worker may have drawn the same GIF at the same time.
        if gifs.iter().all(|(known, _)| *known != key) {
            gifs.push((key, Arc::clone(&bytes)));
        }
        bytes
    }

    fn read_gif(&self, mood: &'static Mood) -> Result<(Vec<u8>, Cache), StoreError> {
        let day = self.day();
        let key = format!("gif:{}", mood.gif_name());
        let is_ours = |found: &StoredValue| found.expires && fnv1a(&found.bytes) == mood.gif_version;
        match self.store.get(&key)? {
            Some(found) if is_ours(&found) => Ok((found.bytes, Cache::Hit)),
            Some(_) => {
                self.report_foreign(&key, "it is not this GIF, or would never expire");
                let bytes = crate::mood::gif::animated(mood);
                self.store.update(&key, day.ends_at, &mut |_| Some(bytes.clone()))?;
                Ok((bytes, Cache::Miss))
            }
            None => {
                let bytes = crate::mood::gif::animated(mood);
                self.store.put_if_absent(&key, &bytes, day.ends_at)?;
                Ok((bytes, Cache::Miss))
            }
        }
    }

    /// The store's state in one word, or why it is unavailable.
    pub fn store_state(&self) -> Result<&'static str, StoreError> {
        self.store.ping().map(|()| self.store.label())
    }

    /// Connections to the store: (in use, idle).
    pub fn pool_connections(&self) -> (u32, u32) {
        self.store.pool_connections()
    }

    /// Today, cached until it ends or the clock is set back.
    fn day(&self) -> Day {
        let now = Utc::now();
        let mut remembered = lock(&self.day);
        match *remembered {
            Some((since, day)) if since <= now && day.contains(now) => day,
            _ => {
                let day = Day::at(now, |timestamp| self.zone.offset_at(timestamp));
                *remembered = Some((now, day));
                day
            }
        }
    }

    /// The stored entry, or one clause about why this service did not write it.
    fn judge(&self, found: &StoredValue, day: Day) -> Result<Arc<Entry>, &'static str> {
        if !found.expires {
            return Err("it would never expire");
        }
        if let Some(last) = &*lock(&self.last)
            && last.date == day.date
            && last.json.as_bytes() == found.bytes
        {
            return Ok(Arc::clone(last));
        }
        match Entry::parse(&found.bytes, day.date) {
            // Replicas of two versions would show different bytes, so only the same bytes are valid.
            Ok(entry) if entry.json.as_bytes() != found.bytes => Err("another version wrote it"),
            Ok(entry) => Ok(self.keep(entry)),
            Err(why) => Err(why),
        }
    }

    fn keep(&self, entry: Entry) -> Arc<Entry> {
        let mut last = lock(&self.last);
        if let Some(last) = &*last
            && **last == entry
        {
            return Arc::clone(last);
        }
        self.metrics.show_mood(entry.mood.slug, entry.date.to_string());
        let entry = Arc::new(entry);
        *last = Some(Arc::clone(&entry));
        entry
    }

    fn report_foreign(&self, key: &str, why: &str) {
        self.metrics.foreign_values.inc();
        log::warn!("the value of {key} in the store is replaced: {why}");
    }
}

fn mood_key(day: Day) -> String {
    format!("mood:{}", day.date)
}
