//! What property tests start from: bytes as clients, Redis and users send them (tests/corpus, a file each), and damage to them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::path::Path;

/// One thing that happens to bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Remove(Index),
    Insert(Index, Vec<u8>),
    /// What stands there, so many times more.
    Repeat(Index, usize),
}

impl Damage {
    fn strike(self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Damage::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Damage::Cut(at) => bytes.truncate(at.index(length)),
            Damage::Remove(at) => drop(bytes.remove(at.index(length))),
            Damage::Insert(at, new) => drop(bytes.splice(at.index(length)..at.index(length), new)),
            Damage::Repeat(at, times) => {
                let at = at.index(length);
                let part = bytes[at..length.min(at + 16)].repeat(times);
                bytes.splice(at..at, part);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => any::<Index>().prop_map(Damage::Cut),
        2 => any::<Index>().prop_map(Damage::Remove),
        2 => (any::<Index>(), vec(any::<u8>(), 1..4)).prop_map(|(at, new)| Damage::Insert(at, new)),
        1 => (any::<Index>(), 1usize..64).prop_map(|(at, times)| Damage::Repeat(at, times)),
    ]
}

/// The bytes of a file of tests/corpus/`kind`, damaged in none to six places.
pub fn damaged(kind: &str) -> impl Strategy<Value = Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind);
    let mut seeds: Vec<_> =
        folder.read_dir().unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    // The order of a folder's files is not the same everywhere.
    seeds.sort();
    (select(seeds), vec(damage(), 0..=6)).prop_map(|(mut bytes, damages)| {
        damages.into_iter().for_each(|damage| damage.strike(&mut bytes));
        bytes
    })
}

/// The same as text; what is no UTF-8 becomes a replacement character.
pub fn damaged_text(kind: &str) -> impl Strategy<Value = String> {
    damaged(kind).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
