//! Reads back what was acked: every record is where its ack said, and proves its producer, its number and its bytes.

use std::collections::BTreeMap;

use tillroll_client::{Client, Position};

use crate::cmd::{
    bench::{append::Acked, payload::prove},
    fail::Failure,
};

/// What is wrong, if anything is.
pub(super) async fn verify(client: &Client, topic: &str, mut acked: Vec<Acked>) -> Result<Option<String>, Failure> {
    acked.sort_unstable_by_key(|batch| (batch.partition, batch.base_offset));
    let mut wanted: BTreeMap<u32, Ledger> = BTreeMap::new();
    for batch in acked {
        wanted.entry(batch.partition).or_default().batches.push(batch);
    }
    let partitions = wanted.keys().copied().collect::<Vec<_>>();
    if partitions.is_empty() {
        return Ok(None);
    }
    let mut reader = client.reader(topic).partitions(partitions).from(Position::Earliest).open().await?;
    while let Some(batch) = reader.next_batch().await {
        for received in batch? {
            let received = received?;
            let Some(ledger) = wanted.get_mut(&received.partition) else {
                return Ok(Some(format!("a record of partition {} that was not asked for", received.partition)));
            };
            if let Err(wrong) = ledger.take(received.offset, &received.record.value) {
                return Ok(Some(format!("partition {} offset {}: {wrong}", received.partition, received.offset)));
            }
        }
    }
    let missing = wanted.iter().find_map(|(partition, ledger)| Some((partition, ledger.batches.get(ledger.next)?)));
    Ok(missing.map(|(partition, batch)| {
        format!("partition {partition}: acked records from offset {} on are not there", batch.base_offset)
    }))
}

/// The acked batches of one partition, and how far they are proven.
#[derive(Default)]
struct Ledger {
    batches: Vec<Acked>,
    next: usize,
    /// Records of the next batch that are proven.
    proven: u32,
}

impl Ledger {
    fn take(&mut self, offset: u64, value: &[u8]) -> Result<(), String> {
        let Some(batch) = self.batches.get(self.next) else {
            // Behind the last ack: written, and perhaps never answered.
            return Ok(());
        };
        let due = batch.base_offset + u64::from(self.proven);
        if offset < due {
            return Err(format!("offset {due} was due"));
        }
        if offset > due {
            return Err(format!("acked offset {due} is not there"));
        }
        let expected = (batch.producer, batch.first_number + u64::from(self.proven));
        match prove(value) {
            Some(found) if found == expected => {}
            Some((producer, number)) => {
                let (wanted, wanted_number) = expected;
                return Err(format!(
                    "it is record {number} of producer {producer}, acked was {wanted_number} of {wanted}"
                ));
            }
            None => return Err("its CRC is wrong".to_owned()),
        }
        self.proven += 1;
        if self.proven == batch.record_count {
            (self.next, self.proven) = (self.next + 1, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::bench::payload::Payload;

    fn values(producer: u32, first: u64, count: u32) -> Vec<Vec<u8>> {
        let batch = Payload::new(producer, 16, count).batch(first);
        let stride = batch.data.len() / count as usize;
        batch.data.chunks_exact(stride).map(|record| record[record.len() - 16..].to_vec()).collect()
    }

    fn ledger() -> Ledger {
        let batch =
            |base_offset, first_number| Acked { partition: 0, base_offset, producer: 1, first_number, record_count: 2 };
        Ledger { batches: vec![batch(0, 0), batch(2, 2)], ..Ledger::default() }
    }

    #[test]
    fn a_whole_log_is_proven_and_any_other_is_not() {
        let good = values(1, 0, 4);
        let check = |records: &[(u64, &[u8])]| {
            let mut ledger = ledger();
            let taken = records.iter().try_for_each(|(offset, value)| ledger.take(*offset, value));
            taken.map(|()| ledger.next)
        };
        let at = |index: usize| (index as u64, good[index].as_slice());
        assert_eq!(check(&[at(0), at(1), at(2), at(3)]), Ok(2));
        assert_eq!(check(&[at(0), at(1)]), Ok(1), "the second batch stays open");
        assert!(check(&[at(0), at(2)]).is_err_and(|wrong| wrong.contains("acked offset 1")), "a hole");
        assert!(check(&[at(0), at(0)]).is_err(), "twice");
        assert!(check(&[at(0), (1, &good[2])]).is_err_and(|wrong| wrong.contains("it is record 2")), "other bytes");
        let other = values(2, 0, 1);
        assert!(check(&[(0, &other[0])]).is_err(), "another producer");
        let mut damaged = good[0].clone();
        damaged[3] ^= 1;
        assert!(check(&[(0, &damaged)]).is_err_and(|wrong| wrong.contains("CRC")), "a flipped bit");
    }
}
