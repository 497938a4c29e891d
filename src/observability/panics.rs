//! Panics are counted and logged.

use super::logging::RareLog;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

static CAUGHT: AtomicU64 = AtomicU64::new(0);

pub fn caught() -> u64 {
    CAUGHT.load(SeqCst)
}

/// Logs panics, at most one per second. A known defect of tiny_http lets any client cause one: a reset at the right moment
/// ends the thread of its own connection.
pub fn log() {
    let rare = RareLog::every(Duration::from_secs(1));
    std::panic::set_hook(Box::new(move |panic| {
        let count = CAUGHT.fetch_add(1, SeqCst) + 1;
        if rare.is_due() {
            log::error!("caught a panic, {count} so far: {panic}");
        }
    }));
}
