//! The embedded store: the semantics of the Redis one, for a service that runs alone.

use super::{Change, Store, StoreError, StoredValue};
use crate::lock::lock;
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

#[derive(Default)]
pub struct MemoryStore {
    values: Mutex<HashMap<String, Value>>,
}

struct Value {
    bytes: Vec<u8>,
    ends_at: DateTime<Utc>,
}

impl MemoryStore {
    /// The values that have not expired.
    fn live(&self) -> MutexGuard<'_, HashMap<String, Value>> {
        // A panic while the lock was held leaves the map whole: every change to it is one insert.
        let mut values = lock(&self.values);
        let now = Utc::now();
        values.retain(|_, value| now < value.ends_at);
        values
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<StoredValue>, StoreError> {
        Ok(self.live().get(key).map(Value::found))
    }

    fn put_if_absent(&self, key: &str, value: &[u8], ends_at: DateTime<Utc>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut values = self.live();
        if let Some(there) = values.get(key) {
            return Ok(Some(there.bytes.clone()));
        }
        values.insert(key.to_owned(), Value { bytes: value.to_vec(), ends_at });
        Ok(None)
    }

    fn update(&self, key: &str, ends_at: DateTime<Utc>, change: Change) -> Result<(), StoreError> {
        let mut values = self.live();
        let found = values.get(key).map(Value::found);
        if let Some(bytes) = change(found.as_ref()) {
            values.insert(key.to_owned(), Value { bytes, ends_at });
        }
        Ok(())
    }

    fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn label(&self) -> &'static str {
        "embedded"
    }

    fn connections(&self) -> (u32, u32) {
        (0, 0)
    }
}

impl Value {
    fn found(&self) -> StoredValue {
        StoredValue { bytes: self.bytes.clone(), expires: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Duration;

    #[test]
    fn a_value_is_kept_until_its_end_and_no_longer() {
        let store = MemoryStore::default();
        store.put_if_absent("past", b"x", Utc::now()).unwrap();
        assert_eq!(store.get("past").unwrap(), None);
        let later = Utc::now() + Duration::minutes(1);
        assert_eq!(store.put_if_absent("k", b"first", later).unwrap(), None);
        assert_eq!(store.put_if_absent("k", b"second", later).unwrap(), Some(b"first".to_vec()));
        store.update("k", later, &mut |found| Some([&found.unwrap().bytes[..], b"!"].concat())).unwrap();
        assert_eq!(store.get("k").unwrap().unwrap().bytes, b"first!");
    }
}
