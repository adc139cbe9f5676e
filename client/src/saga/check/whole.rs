//! Whether a topic was read whole: from the first record that it ever had to the published end, without a gap. What was
//! deleted or not read cannot be judged, and would be missed by nothing else.

use std::collections::BTreeMap;

use super::{
    log::Log,
    place::Place,
    verdict::{Invariant::S1, Subject},
};

/// How far a topic was read.
pub(crate) struct Whole {
    topic: &'static str,
    /// The end of each partition, and the record of it that is due.
    partitions: BTreeMap<u32, Way>,
}

#[derive(Clone, Copy)]
struct Way {
    due: u64,
    end: u64,
}

impl Whole {
    /// Nothing is read yet up to these ends.
    pub(crate) fn new(topic: &'static str, ends: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let ways = ends.into_iter().map(|(partition, end)| (partition, Way { due: 0, end }));
        Self { topic, partitions: ways.collect() }
    }

    /// Partitions that have records.
    pub(crate) fn partitions(&self) -> Vec<u32> {
        self.partitions.iter().filter(|(_, way)| way.end > 0).map(|(partition, _)| *partition).collect()
    }

    /// A record was read. Says whether it stands below the end; what comes behind is of no concern.
    pub(crate) fn read(&mut self, partition: u32, offset: u64, log: &mut Log) -> bool {
        let Some(way) = self.partitions.get_mut(&partition).filter(|way| offset < way.end) else { return false };
        let due = std::mem::replace(&mut way.due, offset + 1);
        if due != offset {
            missed(log, self.topic, partition, due, &format!("record {offset}"));
        }
        true
    }

    /// Nothing more is read.
    pub(crate) fn close(self, log: &mut Log) {
        for (partition, Way { due, end }) in self.partitions {
            if due < end {
                missed(log, self.topic, partition, due, &format!("none up to the end {end}"));
            }
        }
    }
}

fn missed(log: &mut Log, topic: &str, partition: u32, due: u64, found: &str) {
    let places: Vec<Place> = Place::new(topic, partition, due).into_iter().collect();
    let expected = format_args!("record {due} of {topic} {partition}");
    log.findings.wrong(S1, &Subject::Log, &places, expected, found);
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Terms, Verdict, judge},
        *,
    };

    /// What is found of a partition with this end of which these records are read.
    fn check(end: u64, offsets: &[u64], expected: &[&str]) {
        let mut log = Log::new();
        let mut whole = Whole::new("orders", [(1, end), (2, 0)]);
        assert_eq!(whole.partitions(), if end > 0 { vec![1] } else { vec![] });
        for offset in offsets {
            assert_eq!(whole.read(1, *offset, &mut log), *offset < end);
        }
        whole.close(&mut log);
        let Verdict { findings, .. } = judge(log, &Terms { allow_open: true, ..Terms::default() });
        let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{offsets:?} of {end}");
    }

    #[test]
    fn what_is_read_has_no_gap_from_the_first_record_to_the_end() {
        check(3, &[0, 1, 2, 3, 4], &[]);
        check(0, &[0], &[]);
        check(3, &[1, 2], &["S1 input: the log: expected record 0 of orders 1, found record 1 at orders 1:0"]);
        check(3, &[0, 2], &["S1 input: the log: expected record 1 of orders 1, found record 2 at orders 1:1"]);
        check(
            3,
            &[0, 1],
            &["S1 input: the log: expected record 2 of orders 1, found none up to the end 3 at orders 1:2"],
        );
        check(3, &[], &["S1 input: the log: expected record 0 of orders 1, found none up to the end 3 at orders 1:0"]);
    }
}
