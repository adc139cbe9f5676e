//! The own outputs of a unit, in the order in which they were decided.
//!
//! Within a partition that is the order of the log. Over several partitions it is the order of the ids, which rise with
//! the decisions: pages of all of them are merged. One page is read to its end before the next is asked for, since
//! readers that wait for one another would wait for ever on one connection.

use std::{collections::VecDeque, sync::Arc};

use super::{Load, OwnEnd, OwnEnds, Unloaded, start::Log};
use crate::{
    partition_for_key,
    processor::{Place, Service, Told, caught::caught, envelope::Envelope, input},
};

/// Records of one page.
const PAGE_RECORDS: u64 = 4_000;

/// A partition of an output topic, and what is to be read of it.
pub(super) struct OwnLane {
    topic: usize,
    partition: u32,
    next: u64,
    end: u64,
}

/// A lane with the page that is being merged: own outputs with their offsets.
struct Paged<F> {
    lane: OwnLane,
    page: VecDeque<(u64, Told<F>)>,
}

impl<S: Service> Load<S> {
    /// Where own outputs of this unit can be: in its own partition of topics with as many partitions as the inputs, in
    /// any partition of others.
    pub(super) fn own_lanes(&self, own: &OwnEnds, log: &Log) -> Vec<OwnLane> {
        let mut lanes = Vec::new();
        for (topic, output) in self.outputs.iter().enumerate() {
            let partitions = match self.co_partitions {
                Some(count) if count == output.partitions => self.unit..self.unit + 1,
                _ => 0..output.partitions,
            };
            for partition in partitions {
                let head = log.head(&output.name, partition);
                let next = own.get(&(topic, partition)).map_or(head, |known| known.next_offset.max(head));
                let end = log.end(&output.name, partition);
                lanes.push(OwnLane { topic, partition, next, end });
            }
        }
        lanes.retain(|lane| lane.next < lane.end);
        lanes
    }

    /// Applies everything that the unit has said. Gives the newest id.
    pub(super) async fn apply_own(
        &self,
        lanes: Vec<OwnLane>,
        state: &mut S::State,
        own: &mut OwnEnds,
    ) -> Result<Option<String>, Unloaded> {
        let mut newest = None;
        let mut paged: Vec<Paged<S::Fact>> =
            lanes.into_iter().map(|lane| Paged { lane, page: VecDeque::new() }).collect();
        loop {
            for paged in &mut paged {
                while paged.page.is_empty() && paged.lane.next < paged.lane.end {
                    self.turn_page(paged, own).await?;
                }
            }
            paged.retain(|paged| !paged.page.is_empty());
            // Until one page is used up, the others have more behind theirs only.
            while let Some(first) = paged.iter_mut().min_by(|one, other| id_of(one).cmp(&id_of(other))) {
                let Some((offset, told)) = first.page.pop_front() else { break };
                let applied = caught(|| self.service.apply(state, &told));
                self.judge(applied.map(Ok), Some(&told.key), || self.own_place(&first.lane, offset))?;
                self.counters.applied.add(1);
                let is_used_up = first.page.is_empty();
                newest = newest.max(Some(told.id));
                if is_used_up {
                    break;
                }
            }
            if paged.is_empty() {
                return Ok(newest);
            }
        }
    }

    async fn turn_page(&self, paged: &mut Paged<S::Fact>, own: &mut OwnEnds) -> Result<(), Unloaded> {
        let Paged { lane, page } = paged;
        let output = &self.outputs[lane.topic];
        let place = self.own_place(lane, 0);
        let unreadable = |offset| {
            let place = Place { offset, ..place.clone() };
            move |error| Unloaded::Unreadable { place, error }
        };
        let reader = self.client.reader(&output.name).partitions([lane.partition]);
        let mut reader =
            reader.resume(lane.partition, lane.next).limit(PAGE_RECORDS).open().await.map_err(unreadable(lane.next))?;
        let from = lane.next;
        while let Some(batch) = reader.next_batch().await {
            let mut batch = batch.map_err(unreadable(lane.next))?;
            while let Some(record) = batch.next_encoded() {
                let (offset, time, body) = record.map_err(unreadable(lane.next))?;
                lane.next = offset + 1;
                let envelope = Envelope::read(body).map_err(unreadable(offset))?;
                if envelope.source() != self.service.name() || !self.is_ours(&envelope) {
                    continue;
                }
                let end = OwnEnd { next_offset: offset + 1, append_time_us: Some(time) };
                own.insert((lane.topic, lane.partition), end);
                let told = caught(|| input::told(&envelope, time, None, lane.partition));
                let told = self.judge(told, envelope.key(), || Place { offset, ..place.clone() })?;
                page.extend(told.map(|told| (offset, told)));
            }
            lane.next = batch.next_offset();
        }
        if lane.next == from {
            // Nothing is left there, though the end is further: what was there is gone.
            lane.next = lane.end;
        }
        Ok(())
    }

    /// Whether an own output is of this unit.
    fn is_ours(&self, envelope: &Envelope) -> bool {
        let Some(count) = self.co_partitions else { return true };
        envelope.key().is_some_and(|key| partition_for_key(key.as_bytes(), count) == self.unit)
    }

    fn own_place(&self, lane: &OwnLane, offset: u64) -> Place {
        let topic: Arc<str> = self.outputs[lane.topic].name.as_str().into();
        Place { topic, partition: lane.partition, offset }
    }
}

fn id_of<F>(paged: &Paged<F>) -> Option<&str> {
    paged.page.front().map(|(_, told)| told.id.as_str())
}
