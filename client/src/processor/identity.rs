//! Ids of events: UUIDv7, rising with every event that this process says, and above all that its units said before.
//!
//! So the order of the ids is the order of the decisions, also over partitions and over processes whose clocks differ:
//! whoever takes a unit over reads the newest id that it said, and goes on above it. A state that is made again from
//! several partitions is made in that order.

use uuid::Uuid;

/// Ids of one millisecond.
const COUNTER_MAX: u32 = (1 << 26) - 1;

/// Makes ids that rise.
#[derive(Debug)]
pub(super) struct Ids {
    /// 48 bits of milliseconds since 1970, then 26 bits of a counter.
    millis: u64,
    counter: u32,
    random: u64,
}

impl Ids {
    pub(super) fn new() -> Self {
        // 62 of its bits are random, which is all that is needed: they only tell processes apart.
        let (high, low) = Uuid::now_v7().as_u64_pair();
        Self { millis: 0, counter: 0, random: low ^ high.rotate_left(32) }
    }

    /// Goes on above this id, when it is one.
    pub(super) fn above(&mut self, id: &str) {
        let Ok(uuid) = Uuid::parse_str(id) else { return };
        if uuid.get_version_num() != 7 {
            return;
        }
        let bits = uuid.as_u128();
        let millis = (bits >> 80) as u64;
        let counter = ((bits >> 64) as u32 & 0xfff) << 14 | (bits >> 48) as u32 & 0x3fff;
        if (millis, counter) > (self.millis, self.counter) {
            (self.millis, self.counter) = (millis, counter);
        }
    }

    /// The next id, at this time or above the last one.
    pub(super) fn next(&mut self, now_us: i64) -> String {
        let now = u64::try_from(now_us / 1_000).unwrap_or(0);
        if now > self.millis {
            (self.millis, self.counter) = (now, 0);
        } else if self.counter < COUNTER_MAX {
            self.counter += 1;
        } else {
            (self.millis, self.counter) = (self.millis + 1, 0);
        }
        let counter = u128::from(self.counter);
        let bits = u128::from(self.millis) << 80
            | 7 << 76
            | (counter >> 14) << 64
            | 2 << 62
            | (counter & 0x3fff) << 48
            | u128::from(self.noise());
        Uuid::from_u128(bits).to_string()
    }

    /// 48 bits that look random (SplitMix64).
    fn noise(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_700_000_000_000_000;

    #[test]
    fn ids_are_uuids_of_version_7_at_their_time() {
        let uuid = Uuid::parse_str(&Ids::new().next(NOW_US)).expect("a UUID");
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
        let (seconds, nanos) = uuid.get_timestamp().expect("version 7 has one").to_unix();
        assert_eq!((seconds, nanos), (1_700_000_000, 0));
    }

    #[test]
    fn ids_rise_within_a_millisecond_and_when_the_clock_goes_back() {
        let mut ids = Ids::new();
        let mut last = String::new();
        for step in 0..50_000 {
            let id = ids.next(if step % 1_000 == 999 { NOW_US - 5_000_000 } else { NOW_US + step });
            assert!(id > last, "{last} {id}");
            last = id;
        }
    }

    #[test]
    fn a_counter_that_is_full_borrows_from_the_next_millisecond() {
        let mut ids = Ids::new();
        let first = ids.next(NOW_US);
        ids.counter = COUNTER_MAX;
        let second = ids.next(NOW_US);
        assert!(first < second && second < ids.next(NOW_US));
        assert_eq!((ids.millis, ids.counter), (1_700_000_000_001, 1));
    }

    #[test]
    fn another_process_goes_on_above_what_was_said_though_its_clock_is_behind() {
        let (mut ahead, mut behind) = (Ids::new(), Ids::new());
        let mut last = String::new();
        for _ in 0..20_000 {
            last = ahead.next(NOW_US);
        }
        behind.above("not an id");
        behind.above(&last);
        assert!(behind.next(NOW_US - 60_000_000) > last);
    }
}
