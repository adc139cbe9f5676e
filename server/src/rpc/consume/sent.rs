//! What was sent of a partition and when, as far as it takes to say how long a member has had the record at its cursor.

use std::collections::VecDeque;

use tillroll_engine::id::Offset;

/// What is sent within this time of a mark is of that mark.
const MARK_US: i64 = 1_000_000;
/// Marks of one partition; past it two neighbours become one.
const MARKS_MAX: usize = 64;

/// How far records were sent, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::rpc) struct Sent {
    /// For each mark the offset behind it, and when its first record was sent; both rise.
    marks: VecDeque<(Offset, i64)>,
}

impl Sent {
    /// Records up to this offset, which is not one of them, are sent now.
    pub(in crate::rpc) fn note(&mut self, until: Offset, now_us: i64) {
        match self.marks.back_mut() {
            Some((end, since_us)) if now_us - *since_us < MARK_US => *end = until,
            _ => self.marks.push_back((until, now_us)),
        }
        if self.marks.len() > MARKS_MAX {
            self.merge();
        }
    }

    /// The offset behind the last record that was sent.
    pub(in crate::rpc) fn until(&self) -> Offset {
        self.marks.back().map_or(Offset(0), |(end, _)| *end)
    }

    /// When the record at this offset was sent, to a mark; none when it was not.
    pub(in crate::rpc) fn since_us(&self, at: Offset) -> Option<i64> {
        self.marks.iter().find(|(end, _)| *end > at).map(|(_, since_us)| *since_us)
    }

    /// Of each two neighbours the earlier time and the later end stay.
    fn merge(&mut self) {
        let marks = std::mem::take(&mut self.marks);
        let mut marks = marks.into_iter();
        while let Some((end, since_us)) = marks.next() {
            self.marks.push_back((marks.next().map_or(end, |(end, _)| end), since_us));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_with_the_member_since_its_own_sending_and_not_the_last_one() {
        let mut sent = Sent::default();
        assert_eq!((sent.until(), sent.since_us(Offset(0))), (Offset(0), None));
        for (until, now_us) in [(3, 10), (5, 900_000), (6, 2_000_000), (9, 4_000_000)] {
            sent.note(Offset(until), now_us);
        }
        let since = |at| sent.since_us(Offset(at));
        assert_eq!([since(0), since(4), since(5), since(8)].map(Option::unwrap), [10, 10, 2_000_000, 4_000_000]);
        assert_eq!((sent.until(), since(9)), (Offset(9), None));
    }

    #[test]
    fn a_member_that_never_commits_costs_a_bounded_number_of_marks() {
        let mut sent = Sent::default();
        for second in 1..=10_000_u32 {
            sent.note(Offset(second.into()), i64::from(second) * 1_000_000);
            assert!(sent.marks.len() <= MARKS_MAX);
        }
        assert_eq!((sent.until(), sent.since_us(Offset(0))), (Offset(10_000), Some(1_000_000)));
        assert!(sent.since_us(Offset(9_990)).is_some_and(|since_us| since_us > 9_000_000_000));
    }
}
