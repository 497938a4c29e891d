//! Faults on purpose, for trying out what stands around the service: `POST /faults`, where MOOD_FAULTS=on.

use crate::lock::lock;
use serde::Deserialize;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The body of `POST /faults`. What is left out is none; all zero ends the faults.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// The share of requests that get a 500.
    pub error_rate: f64,
    /// How much later each request is answered, in milliseconds.
    pub latency_ms: u64,
    pub for_seconds: u64,
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub fails: bool,
    pub delay: Duration,
}

/// The faults that are wanted now, until they end by themselves.
#[derive(Default)]
pub struct Faults(Mutex<Option<(Wanted, Instant)>>);

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted { error_rate: 0.0, latency_ms: 0, for_seconds: 60 }
    }
}

impl Wanted {
    /// # Errors
    /// What is wrong, and what is allowed.
    pub fn parse(body: &[u8]) -> Result<Wanted, String> {
        let wanted: Wanted = serde_json::from_slice(body).map_err(|error| {
            format!("a JSON object with the numbers error_rate, latency_ms and for_seconds is wanted: {error}")
        })?;
        let mut mistakes = Vec::new();
        if !(0.0..=1.0).contains(&wanted.error_rate) {
            mistakes.push("error_rate may be from 0 to 1");
        }
        if wanted.latency_ms > 10_000 {
            mistakes.push("latency_ms may be from 0 to 10000");
        }
        if !(1..=3600).contains(&wanted.for_seconds) {
            mistakes.push("for_seconds may be from 1 to 3600");
        }
        if mistakes.is_empty() { Ok(wanted) } else { Err(mistakes.join("; ")) }
    }

    fn is_none(&self) -> bool {
        self.error_rate == 0.0 && self.latency_ms == 0
    }
}

impl Faults {
    /// Replaces what was wanted before.
    pub fn set(&self, wanted: Wanted) {
        let mut active = self.active();
        if wanted.is_none() {
            if active.take().is_some() {
                log::warn!("faults ended");
            }
        } else {
            let Wanted { error_rate, latency_ms, for_seconds } = wanted;
            log::warn!("faults on purpose: error_rate {error_rate}, {latency_ms} ms later, for {for_seconds} s");
            *active = Some((wanted, Instant::now() + Duration::from_secs(for_seconds)));
        }
    }

    /// What the next request suffers, if anything.
    pub fn draw(&self) -> Option<Fault> {
        let active = self.active();
        let (wanted, _) = active.as_ref()?;
        let fault =
            Fault { fails: fastrand::f64() < wanted.error_rate, delay: Duration::from_millis(wanted.latency_ms) };
        (fault.fails || !fault.delay.is_zero()).then_some(fault)
    }

    pub fn is_active(&self) -> bool {
        self.active().is_some()
    }

    /// Those of now; tells the log when their time is over.
    fn active(&self) -> MutexGuard<'_, Option<(Wanted, Instant)>> {
        let mut active = lock(&self.0);
        if active.as_ref().is_some_and(|(_, until)| *until <= Instant::now()) {
            log::warn!("faults ended");
            *active = None;
        }
        active
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::damaged;
    use proptest::prelude::*;

    #[test]
    fn wrong_values_are_named() {
        for (body, named) in [
            (r#"{"error_rate":1.1}"#, "error_rate"),
            (r#"{"error_rate":-0.1,"for_seconds":0}"#, "error_rate"),
            (r#"{"error_rate":-0.1,"for_seconds":0}"#, "for_seconds"),
            (r#"{"latency_ms":10001}"#, "latency_ms"),
            (r#"{"latency_ms":"much"}"#, "\"much\""),
            (r#"{"latency_ms":-1}"#, "-1"),
            (r#"{"latency":1}"#, "`latency`"),
            ("", "JSON"),
            ("7", "JSON"),
        ] {
            let error = Wanted::parse(body.as_bytes()).unwrap_err();
            assert!(error.contains(named), "{body}: {error}");
        }
    }

    #[test]
    fn they_strike_as_often_as_wanted_and_end_by_themselves() {
        let faults = Faults::default();
        assert_eq!(faults.draw(), None);
        faults.set(Wanted { error_rate: 0.5, for_seconds: 1, ..Wanted::default() });
        let failed = (0..2000).filter(|_| faults.draw().is_some_and(|fault| fault.fails)).count();
        assert!((800..1200).contains(&failed), "{failed}");
        std::thread::sleep(Duration::from_millis(1050));
        assert_eq!((faults.draw(), faults.is_active()), (None, false));
    }

    #[test]
    fn none_wanted_ends_them() {
        let faults = Faults::default();
        faults.set(Wanted { latency_ms: 5, ..Wanted::default() });
        assert_eq!(faults.draw(), Some(Fault { fails: false, delay: Duration::from_millis(5) }));
        faults.set(Wanted::default());
        assert_eq!(faults.draw(), None);
    }

    proptest! {
        #[test]
        fn no_body_does_harm(random: Vec<u8>, near in damaged("faults")) {
            for body in [random, near] {
                if let Ok(wanted) = Wanted::parse(&body) {
                    prop_assert!((0.0..=1.0).contains(&wanted.error_rate), "{:?}", wanted);
                }
            }
        }
    }
}
