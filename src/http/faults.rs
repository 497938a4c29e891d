//! Fault injection: with MOOD_FAULTS=on, `POST /faults` makes this replica fail on purpose.

use super::app::{App, BatchRead};
use super::reply::Reply;
use super::request::Request;
use crate::lock::lock;
use serde::Deserialize;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub const PATH: &str = "/faults";

/// The body of `POST /faults`. An omitted field has its default; an `error_rate` of zero ends the faults.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// The share of requests that get a 500.
    pub error_rate: f64,
    pub for_seconds: u64,
}

/// The active faults and their end.
#[derive(Default)]
pub struct Faults(Mutex<Option<(Wanted, Instant)>>);

/// The handler of `POST /faults`.
pub fn set(app: &App, request: &Request, _: &mut BatchRead) -> Reply {
    let Some(faults) = &app.faults else { return Reply::not_found() };
    match Wanted::parse(request.body) {
        Ok(wanted) => {
            faults.set(wanted);
            Reply::ok()
        }
        Err(errors) => Reply::error(400, &errors),
    }
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted { error_rate: 0.0, for_seconds: 60 }
    }
}

impl Wanted {
    /// # Errors
    /// One sentence with every error and the allowed values.
    pub fn parse(body: &[u8]) -> Result<Wanted, String> {
        let wanted: Wanted = serde_json::from_slice(body)
            .map_err(|error| format!("a JSON object with the numbers error_rate and for_seconds is wanted: {error}"))?;
        let mut errors = Vec::new();
        if !(0.0..=1.0).contains(&wanted.error_rate) {
            errors.push("error_rate may be from 0 to 1");
        }
        if !(1..=3600).contains(&wanted.for_seconds) {
            errors.push("for_seconds may be from 1 to 3600");
        }
        if errors.is_empty() { Ok(wanted) } else { Err(errors.join("; ")) }
    }
}

impl Faults {
    /// Replaces the active faults.
    pub fn set(&self, wanted: Wanted) {
        let mut active = self.active();
        if wanted.error_rate == 0.0 {
            if active.take().is_some() {
                log::warn!("faults ended");
            }
        } else {
            let Wanted { error_rate, for_seconds } = wanted;
            log::warn!("faults on purpose: error_rate {error_rate} for {for_seconds} s");
            *active = Some((wanted, Instant::now() + Duration::from_secs(for_seconds)));
        }
    }

    /// Whether the next request fails.
    pub fn draw(&self) -> bool {
        self.active().as_ref().is_some_and(|(wanted, _)| fastrand::f64() < wanted.error_rate)
    }

    pub fn is_active(&self) -> bool {
        self.active().is_some()
    }

    /// Ends and logs faults whose time is over.
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
            (r#"{"for_seconds":3601}"#, "for_seconds"),
            (r#"{"error_rate":"much"}"#, "\"much\""),
            (r#"{"for_seconds":-1}"#, "-1"),
            (r#"{"latency_ms":1}"#, "`latency_ms`"),
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
        assert!(!faults.draw());
        faults.set(Wanted { error_rate: 0.5, for_seconds: 1 });
        let failed = (0..2000).filter(|_| faults.draw()).count();
        assert!((800..1200).contains(&failed), "{failed}");
        std::thread::sleep(Duration::from_millis(1050));
        assert_eq!((faults.draw(), faults.is_active()), (false, false));
    }

    #[test]
    fn none_wanted_ends_them() {
        let faults = Faults::default();
        faults.set(Wanted { error_rate: 1.0, ..Wanted::default() });
        assert!(faults.draw());
        faults.set(Wanted::default());
        assert!(!faults.draw());
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
