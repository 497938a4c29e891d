//! FNV-1a, the 32-bit one: a content version and a check against accidents, not against an adversary.
//! Source: the parameters of draft-eastlake-fnv.

pub fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    #[test]
    fn matches_the_published_vectors() {
        assert_eq!(super::fnv1a(b""), 0x811c_9dc5);
        assert_eq!(super::fnv1a(b"foobar"), 0xbf9c_f968);
    }
}
