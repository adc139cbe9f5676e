//! Makes a unit's state: from a snapshot when there is a good one, and from the log.
//!
//! First every input below the cursors is observed, then every own output up to the end is applied, in the order in
//! which they were decided. The ends are asked for after the unit was assigned, and that is only told when whoever had
//! it before is fenced: nothing of an older owner comes later. What is not in the state is left for steps: the records
//! from the cursor to where the group's stream goes on.

mod own;
mod start;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::{
    Malformed, Place, Service, Timer,
    block::Held,
    caught::caught,
    envelope::Envelope,
    fail_point::{FailPoint, reach},
    output::OutputTopic,
    statistics::Counters,
};
use crate::{Client, Error, ReadBatch};
use own::OwnLane;
use start::Start;

/// What has to be loaded.
pub(super) struct Load<S> {
    pub(super) client: Client,
    pub(super) service: Arc<S>,
    /// The unit's number: its partition when partitions go together, 0 when everything does.
    pub(super) unit: u32,
    /// How many partitions the inputs have each, when partition i of all goes together.
    pub(super) co_partitions: Option<u32>,
    pub(super) lanes: Vec<LaneLoad>,
    /// The cursors are elsewhere than was thought: the group is asked, as this member.
    pub(super) asks_cursors: bool,
    pub(super) member: String,
    pub(super) outputs: Arc<[OutputTopic]>,
    pub(super) snapshot: Option<PathBuf>,
    pub(super) skips_malformed: bool,
    pub(super) counters: Arc<Counters>,
}

/// One input partition of it.
#[derive(Clone, Debug)]
pub(super) struct LaneLoad {
    pub(super) held: Held,
    /// Everything below is done with.
    pub(super) cursor: u64,
    /// Where the group's stream goes on.
    pub(super) came: u64,
}

/// One input partition of it.
pub(super) struct LaneLoaded {
    pub(super) cursor: u64,
    /// The append time of the record before the cursor, when it is known.
    pub(super) time: Option<i64>,
    /// The records from the cursor to where the stream goes on.
    pub(super) refill: Vec<ReadBatch>,
}

/// How far own outputs are in the state, in one partition of an output topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnEnd {
    pub(super) next_offset: u64,
    /// The append time of the record before it.
    pub(super) append_time_us: Option<i64>,
}

/// By output topic and partition.
pub(super) type OwnEnds = BTreeMap<(usize, u32), OwnEnd>;

/// A state, and where it stands.
pub(super) struct Loaded<T> {
    pub(super) state: T,
    pub(super) lanes: Vec<LaneLoaded>,
    pub(super) timers: Vec<(String, Timer)>,
    pub(super) own: OwnEnds,
    /// The newest id among the own outputs.
    pub(super) newest_id: Option<String>,
    /// Which broker it was read from.
    pub(super) node_id: String,
    pub(super) incarnation: u64,
}

/// Why a state could not be made.
#[derive(Debug)]
pub(super) enum Unloaded {
    Broker(Error),
    /// A partition cannot be read on from there.
    Unreadable {
        place: Place,
        error: Error,
    },
    /// The service panicked in this record.
    Panicked {
        place: Place,
        key: String,
        wrong: String,
    },
    Malformed {
        place: Place,
        malformed: Malformed,
    },
    /// The group says that another member has it.
    NotHeld,
}

impl From<Error> for Unloaded {
    fn from(error: Error) -> Self {
        Self::Broker(error)
    }
}

impl<S: Service> Load<S> {
    pub(super) async fn run(mut self) -> Result<Loaded<S::State>, Unloaded> {
        reach(FailPoint::BeforeLoad);
        if self.asks_cursors {
            self.ask_cursors().await?;
        }
        let Start { mut state, inputs, mut own, mut newest_id, log } = self.start().await?;
        let mut lanes = Vec::with_capacity(self.lanes.len());
        for (lane, (from, time)) in self.lanes.iter().zip(inputs) {
            let seen = self.observe(lane, from, &mut state).await?;
            let (cursor, time, refill) = (lane.cursor, seen.or(time), self.refill(lane).await?);
            lanes.push(LaneLoaded { cursor, time, refill });
        }
        let ranges: Vec<OwnLane> = self.own_lanes(&own, &log);
        let newest = self.apply_own(ranges, &mut state, &mut own).await?;
        newest_id = newest_id.max(newest);
        let timers = self.service.timers(&state);
        reach(FailPoint::AfterLoad);
        Ok(Loaded { state, lanes, timers, own, newest_id, node_id: log.node_id, incarnation: log.incarnation })
    }

    /// Nothing of this processor is on its way: the group knows where the cursors are.
    async fn ask_cursors(&mut self) -> Result<(), Unloaded> {
        let group = self.client.groups().get(self.service.name()).await?;
        for lane in &mut self.lanes {
            let Held { topic, partition, .. } = &lane.held;
            let cursor = group.cursors.iter().find(|at| at.topic == **topic && at.partition == *partition);
            let cursor = cursor.filter(|at| at.holder.as_ref() == Some(&self.member)).ok_or(Unloaded::NotHeld)?;
            lane.cursor = cursor.next_offset;
        }
        Ok(())
    }

    /// Observes the records of a lane from an offset up to the cursor. Gives the append time of the last of them.
    async fn observe(&self, lane: &LaneLoad, from: u64, state: &mut S::State) -> Result<Option<i64>, Unloaded> {
        let Held { topic, partition, .. } = &lane.held;
        let (mut next, mut last) = (from, None);
        if from >= lane.cursor {
            return Ok(last);
        }
        let reader = self.client.reader(&**topic).partitions([*partition]).resume(*partition, from);
        let mut reader = reader.limit(lane.cursor - from).open().await.map_err(lane.unreadable(next))?;
        while let Some(batch) = reader.next_batch().await {
            let mut batch = batch.map_err(lane.unreadable(next))?;
            while let Some(record) = batch.next_encoded() {
                let (offset, time, body) = record.map_err(lane.unreadable(next))?;
                if offset >= lane.cursor {
                    return Ok(last);
                }
                last = Some(time);
                let envelope = Envelope::read(body).map_err(lane.unreadable(offset))?;
                self.hear(lane, &envelope, time, offset, state)?;
                next = offset + 1;
            }
        }
        Ok(last)
    }

    /// The records from the cursor to where the stream goes on.
    async fn refill(&self, lane: &LaneLoad) -> Result<Vec<ReadBatch>, Unloaded> {
        let Held { topic, partition, .. } = &lane.held;
        let mut batches = Vec::new();
        if lane.cursor >= lane.came {
            return Ok(batches);
        }
        let reader = self.client.reader(&**topic).partitions([*partition]).resume(*partition, lane.cursor);
        let mut next = lane.cursor;
        let mut reader = reader.limit(lane.came - lane.cursor).open().await.map_err(lane.unreadable(next))?;
        while let Some(batch) = reader.next_batch().await {
            let batch = batch.map_err(lane.unreadable(next))?;
            next = batch.next_offset();
            batches.push(batch);
        }
        Ok(batches)
    }

    /// Observes a record that means something. A malformed one that is skipped was counted when it was met first.
    fn hear(
        &self,
        lane: &LaneLoad,
        envelope: &Envelope,
        time: i64,
        offset: u64,
        state: &mut S::State,
    ) -> Result<(), Unloaded> {
        let Held { topic, partition, .. } = &lane.held;
        let heard = caught(|| {
            if !self.service.wants(topic, envelope.kind()) {
                return Ok(());
            }
            if let Some(told) = super::input::told(envelope, time, self.co_partitions, *partition)? {
                self.service.observe(state, &told);
                self.counters.observed.add(1);
            }
            Ok(())
        });
        self.judge(heard, envelope.key(), || lane.place(offset))
    }

    /// What a service made of a record, or what the record or the service is at fault in. Nothing of a malformed record
    /// that is skipped.
    fn judge<T: Default>(
        &self,
        made: Result<Result<T, Malformed>, String>,
        key: Option<&str>,
        place: impl FnOnce() -> Place,
    ) -> Result<T, Unloaded> {
        match made {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(_)) if self.skips_malformed => Ok(T::default()),
            Ok(Err(malformed)) => Err(Unloaded::Malformed { place: place(), malformed }),
            Err(wrong) => Err(Unloaded::Panicked { place: place(), key: key.unwrap_or_default().to_owned(), wrong }),
        }
    }
}

impl LaneLoad {
    fn place(&self, offset: u64) -> Place {
        Place { topic: Arc::clone(&self.held.topic), partition: self.held.partition, offset }
    }

    /// Why it cannot be read on.
    fn unreadable(&self, offset: u64) -> impl FnOnce(Error) -> Unloaded {
        let place = self.place(offset);
        move |error| Unloaded::Unreadable { place, error }
    }
}
