//! Where the day's mood is kept: the few atomic operations the service needs, whoever carries them out.

pub mod memory;
pub mod redis;
pub mod redis_url;

use chrono::{DateTime, Utc};

/// A value as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// Empty where the key holds something that is not a string.
    pub bytes: Vec<u8>,
    /// Whether the key goes away by itself. All of ours do.
    pub expires: bool,
}

/// The store cannot be used now: the caller answers without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// One clause, with no secret in it.
    pub reason: String,
}

/// What an update makes of the value that stands there: `None` leaves it as it is.
pub type Change<'a> = &'a mut dyn FnMut(Option<&StoredValue>) -> Option<Vec<u8>>;

pub trait Store: Send + Sync {
    /// Reads a value in one round trip.
    fn get(&self, key: &str) -> Result<Option<StoredValue>, StoreError>;

    /// Stores `value` unless there is one, atomically. Gives the value that stands there instead, if any.
    fn put_if_absent(&self, key: &str, value: &[u8], ends_at: DateTime<Utc>) -> Result<Option<Vec<u8>>, StoreError>;

    /// Replaces a value by what `change` makes of it, atomically: nobody else's write comes in between, and `change`
    /// is asked again if one did.
    fn update(&self, key: &str, ends_at: DateTime<Utc>, change: Change) -> Result<(), StoreError>;

    /// Whether the store answers.
    fn ping(&self) -> Result<(), StoreError>;

    /// The word for this store's state in `/health` when it answers.
    fn label(&self) -> &'static str;

    /// Connections of the pool: (in use, idle).
    fn connections(&self) -> (u32, u32);
}
