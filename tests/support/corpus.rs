//! What property tests start from: bytes as clients, Redis and users send them (tests/corpus, a file each), and damage to them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::path::Path;

/// What happens to bytes at one place.
#[derive(Debug, Clone)]
enum Damage {
    Flip(u8),
    Cut,
    Remove,
    Insert(Vec<u8>),
    /// What stands there, so many times more.
    Repeat(usize),
}

impl Damage {
    fn strike(self, bytes: &mut Vec<u8>, place: Index) {
        if bytes.is_empty() {
            return;
        }
        let at = place.index(bytes.len());
        match self {
            Damage::Flip(bit) => bytes[at] ^= 1 << bit,
            Damage::Cut => bytes.truncate(at),
            Damage::Remove => drop(bytes.remove(at)),
            Damage::Insert(new) => drop(bytes.splice(at..at, new)),
            Damage::Repeat(times) => {
                let part = bytes[at..bytes.len().min(at + 16)].repeat(times);
                bytes.splice(at..at, part);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (0u8..8).prop_map(Damage::Flip),
        1 => Just(Damage::Cut),
        2 => Just(Damage::Remove),
        2 => vec(any::<u8>(), 1..4).prop_map(Damage::Insert),
        1 => (1usize..64).prop_map(Damage::Repeat),
    ]
}

/// The bytes of a file of tests/corpus/`kind`, damaged in none to six places.
pub fn damaged(kind: &str) -> impl Strategy<Value = Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind);
    let mut seeds: Vec<_> =
        folder.read_dir().unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    // The order of a folder's files is not the same everywhere.
    seeds.sort();
    (select(seeds), vec((damage(), any::<Index>()), 0..=6)).prop_map(|(mut bytes, damages)| {
        damages.into_iter().for_each(|(damage, place)| damage.strike(&mut bytes, place));
        bytes
    })
}

/// The same as text; what is no UTF-8 becomes a replacement character.
pub fn damaged_text(kind: &str) -> impl Strategy<Value = String> {
    damaged(kind).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
