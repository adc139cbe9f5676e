//! Which partition a record goes to.

use xxhash_rust::xxh3::xxh3_64;

/// The partition of a key in a topic with so many partitions: XXH3-64 of the
/// key, modulo the count. Every client and the server itself use this rule, so
/// that a key stays in one partition whoever appends.
///
/// # Panics
///
/// When `partitions` is 0: no topic has none.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    assert!(partitions > 0, "a topic has at least one partition");
    u32::try_from(xxh3_64(key) % u64::from(partitions)).expect("the rest is below a u32")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fixed by the contract: a change here would move keys to other partitions.
    #[test]
    fn keys_keep_their_partition() {
        // XXH3-64 of the empty input is 0x2D06800538D394C2.
        assert_eq!(xxh3_64(b""), 0x2D06_8005_38D3_94C2);
        assert_eq!(partition_for_key(b"", 8), 2);
        assert_eq!(partition_for_key(b"anything", 1), 0);
    }

    #[test]
    fn keys_spread_over_all_partitions() {
        let mut hit = [0_u32; 8];
        for key in 0..8_000_u32 {
            hit[partition_for_key(key.to_string().as_bytes(), 8) as usize] += 1;
        }
        assert!(hit.iter().all(|count| (800..1_200).contains(count)), "{hit:?}");
    }
}
