//! The embedded store, for a service without Redis. It has the semantics of the Redis store.

use super::{Change, Store, StoreError, StoredValue};
use crate::lock::lock;
use chrono::{DateTime, Utc};
use std::sync::{Mutex, MutexGuard};

#[derive(Default)]
pub struct MemoryStore {
    /// One mood and a few GIFs per day, so a list is as fast as a table.
    values: Mutex<Vec<(String, Value)>>,
}

struct Value {
    bytes: Vec<u8>,
    ends_at: DateTime<Utc>,
}

impl MemoryStore {
    /// The values that have not expired.
    fn live(&self) -> MutexGuard<'_, Vec<(String, Value)>> {
        let mut values = lock(&self.values);
        let now = Utc::now();
        values.retain(|(_, value)| now < value.ends_at);
        values
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<StoredValue>, StoreError> {
        Ok(value_of(&mut self.live(), key).map(|value| value.stored()))
    }

    fn put_if_absent(&self, key: &str, value: &[u8], ends_at: DateTime<Utc>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut values = self.live();
        if let Some(there) = value_of(&mut values, key) {
            return Ok(Some(there.bytes.clone()));
        }
        values.push((key.to_owned(), Value { bytes: value.to_vec(), ends_at }));
        Ok(None)
    }

    fn update(&self, key: &str, ends_at: DateTime<Utc>, change: Change) -> Result<(), StoreError> {
        let mut values = self.live();
        let there = value_of(&mut values, key);
        let Some(bytes) = change(there.as_deref().map(Value::stored).as_ref()) else { return Ok(()) };
        match there {
            Some(there) => *there = Value { bytes, ends_at },
            None => values.push((key.to_owned(), Value { bytes, ends_at })),
        }
        Ok(())
    }

    fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn label(&self) -> &'static str {
        "embedded"
    }

    fn pool_connections(&self) -> (u32, u32) {
        (0, 0)
    }
}

fn value_of<'a>(values: &'a mut [(String, Value)], key: &str) -> Option<&'a mut Value> {
    values.iter_mut().find(|(known, _)| known == key).map(|(_, value)| value)
}

impl Value {
    fn stored(&self) -> StoredValue {
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
