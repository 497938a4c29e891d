//! The store of the day's mood: the few atomic operations that the service needs.

pub mod memory;
pub mod redis;
pub mod redis_url;

use chrono::{DateTime, Utc};

/// A value in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// Empty if the key holds something other than a string.
    pub bytes: Vec<u8>,
    /// Whether the key expires. All keys of the service do.
    pub expires: bool,
}

/// The store is unavailable, and the caller continues without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// One clause, with no secret in it.
    pub reason: String,
}

/// Maps the current value to a new one. `None` keeps the current value.
pub type Change<'a> = &'a mut dyn FnMut(Option<&StoredValue>) -> Option<Vec<u8>>;

pub trait Store: Send + Sync {
    /// Reads a value in one round trip.
    fn get(&self, key: &str) -> Result<Option<StoredValue>, StoreError>;

    /// Stores `value` unless the key has one, atomically. Returns the existing value, if any.
    fn put_if_absent(&self, key: &str, value: &[u8], ends_at: DateTime<Utc>) -> Result<Option<Vec<u8>>, StoreError>;

    /// Replaces a value by the result of `change`, atomically. If another client writes the key in between, `change` is called
    /// again.
    fn update(&self, key: &str, ends_at: DateTime<Utc>, change: Change) -> Result<(), StoreError>;

    /// Whether the store responds.
    fn ping(&self) -> Result<(), StoreError>;

    /// The state in `/health` while the store responds.
    fn label(&self) -> &'static str;

    /// Connections of the pool: (in use, idle).
    fn pool_connections(&self) -> (u32, u32);
}
