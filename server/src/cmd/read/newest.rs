//! The last records over all partitions: by append time, then partition, then offset. Keeps no more than asked for.

use std::{cmp::Reverse, collections::BinaryHeap};

use tillroll_client::Received;

/// The newest records so far.
pub(super) struct Newest {
    count: usize,
    /// The oldest of them on top.
    heap: BinaryHeap<Reverse<Aged>>,
}

struct Aged(Received);

impl Aged {
    fn age(&self) -> (i64, u32, u64) {
        (self.0.append_time_us, self.0.partition, self.0.offset)
    }
}

impl PartialEq for Aged {
    fn eq(&self, other: &Self) -> bool {
        self.age() == other.age()
    }
}

impl Eq for Aged {}

impl PartialOrd for Aged {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Aged {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.age().cmp(&other.age())
    }
}

impl Newest {
    /// Keeps so many.
    pub(super) fn new(count: u64) -> Self {
        Self { count: usize::try_from(count).unwrap_or(usize::MAX), heap: BinaryHeap::new() }
    }

    /// One more, in any order over partitions.
    pub(super) fn take(&mut self, mut received: Received) {
        if self.count == 0 {
            return;
        }
        if self.heap.len() == self.count {
            if self
                .heap
                .peek()
                .is_some_and(|oldest| (received.append_time_us, received.partition, received.offset) < oldest.0.age())
            {
                return;
            }
            self.heap.pop();
        }
        // A record shares memory with its batch, which would be kept as a whole.
        let record = &mut received.record;
        record.value = record.value.to_vec().into();
        record.key = record.key.take().map(|key| key.to_vec().into());
        for (_, value) in &mut record.headers {
            *value = value.to_vec().into();
        }
        self.heap.push(Reverse(Aged(received)));
    }

    /// Oldest first.
    pub(super) fn into_sorted(self) -> impl Iterator<Item = Received> {
        // Sorted by `Reverse`, so from the newest on.
        self.heap.into_sorted_vec().into_iter().rev().map(|Reverse(Aged(received))| received)
    }
}
