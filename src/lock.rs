//! Locks that stay usable after a panic.

use std::sync::{Mutex, MutexGuard};

/// Locks `mutex`, also after a panic while it was held. Every value behind a lock here changes in one assignment or call, so it
/// is never half changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
