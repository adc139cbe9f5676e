//! Where loading begins: at a snapshot that fits the log, or at the head.

use std::collections::BTreeMap;

use super::{
    super::snapshot::{Edge, Head, Snapshot, Unusable},
    Load, OwnEnd, OwnEnds, Unloaded,
};
use crate::{
    Error,
    processor::{Place, Service, caught::caught},
};

/// The log as it is now.
pub(super) struct Log {
    pub(super) node_id: String,
    pub(super) incarnation: u64,
    /// Head and end of every partition of the topics that matter.
    extents: BTreeMap<(String, u32), (u64, u64)>,
}

/// Where loading begins.
pub(super) struct Start<T> {
    pub(super) state: T,
    /// For each lane: the first offset that is not in the state, and the append time of the record before it.
    pub(super) inputs: Vec<(u64, Option<i64>)>,
    pub(super) own: OwnEnds,
    pub(super) newest_id: Option<String>,
    pub(super) log: Log,
}

impl Log {
    pub(super) fn head(&self, topic: &str, partition: u32) -> u64 {
        self.extent(topic, partition).0
    }

    pub(super) fn end(&self, topic: &str, partition: u32) -> u64 {
        self.extent(topic, partition).1
    }

    fn extent(&self, topic: &str, partition: u32) -> (u64, u64) {
        self.extents.get(&(topic.to_owned(), partition)).copied().unwrap_or_default()
    }
}

impl<S: Service> Load<S> {
    pub(super) async fn start(&self) -> Result<Start<S::State>, Unloaded> {
        let log = self.log().await?;
        if let Some(path) = &self.snapshot {
            match self.begin_at(path, &log).await? {
                Ok(Snapped { state, head }) => {
                    self.counters.snapshots_used.add(1);
                    return Ok(self.at_snapshot(state, &head, log));
                }
                Err(Unusable::Absent) => {}
                Err(why) => {
                    self.counters.snapshots_thrown_away.add(1);
                    tracing::warn!(service = self.service.name(), unit = self.unit, %why, "snapshot thrown away");
                }
            }
        }
        let inputs = self.lanes.iter().map(|lane| (log.head(&lane.held.topic, lane.held.partition), None)).collect();
        let (state, own, newest_id) = (S::State::default(), OwnEnds::new(), None);
        Ok(Start { state, inputs, own, newest_id, log })
    }

    async fn log(&self) -> Result<Log, Error> {
        let server = self.client.admin().server_info().await?;
        let inputs = self.lanes.iter().map(|lane| lane.held.topic.to_string());
        let mut topics: Vec<String> = inputs.chain(self.outputs.iter().map(|topic| topic.name.clone())).collect();
        topics.sort_unstable();
        topics.dedup();
        let mut extents = BTreeMap::new();
        for name in topics {
            let topic = self.client.admin().get_topic(&name).await?;
            for one in topic.partitions {
                extents.insert((name.clone(), one.partition), (one.head_offset, one.end_offset));
            }
        }
        Ok(Log { node_id: server.node_id, incarnation: server.incarnation, extents })
    }

    /// Reads the snapshot and looks whether it fits.
    async fn begin_at(
        &self,
        path: &std::path::Path,
        log: &Log,
    ) -> Result<Result<Snapped<S::State>, Unusable>, Unloaded> {
        let path = path.to_owned();
        let read = tokio::task::spawn_blocking(move || Snapshot::read(&path)).await;
        let Snapshot { head, state } = match read.unwrap_or_else(|gone| Err(Unusable::Unreadable(gone.to_string()))) {
            Ok(snapshot) => snapshot,
            Err(why) => return Ok(Err(why)),
        };
        if let Err(why) = self.check(&head, log) {
            return Ok(Err(why));
        }
        for edge in head.inputs.iter().chain(&head.outputs) {
            if !self.is_same_history(edge, log).await? {
                return Ok(Err(Unusable::OtherHistory { edge: edge.clone() }));
            }
        }
        let read = caught(|| serde_json::from_slice(&state).map_err(|error| error.to_string())).flatten();
        Ok(read.map_err(Unusable::Unreadable).map(|state| Snapped { state, head }))
    }

    /// Whether its places are in this log, and not beyond what the group has done.
    fn check(&self, head: &Head, log: &Log) -> Result<(), Unusable> {
        head.check_owner(self.service.name(), self.unit, &log.node_id, log.incarnation)?;
        if head.inputs.len() != self.lanes.len() {
            return Err(Unusable::OfOther("set of inputs"));
        }
        for lane in &self.lanes {
            let edge = edge_of(&head.inputs, &lane.held.topic, lane.held.partition);
            let edge = edge.ok_or(Unusable::OfOther("set of inputs"))?;
            if edge.next_offset > lane.cursor {
                return Err(Unusable::AheadOfLog { edge: edge.clone(), end: lane.cursor });
            }
        }
        for edge in head.inputs.iter().chain(&head.outputs) {
            let end = log.end(&edge.topic, edge.partition);
            if edge.next_offset > end {
                return Err(Unusable::AheadOfLog { edge: edge.clone(), end });
            }
        }
        Ok(())
    }

    /// Whether the record before a place is the one that was there. A log that was restored from an older copy and has
    /// grown since has another one.
    async fn is_same_history(&self, edge: &Edge, log: &Log) -> Result<bool, Unloaded> {
        let head = log.head(&edge.topic, edge.partition);
        let Some(last) = edge.next_offset.checked_sub(1).filter(|last| *last >= head) else { return Ok(true) };
        let Some(known) = edge.append_time_us else { return Ok(true) };
        let reader = self.client.reader(&edge.topic).partitions([edge.partition]);
        let unreadable = |error| {
            let place = Place { topic: edge.topic.as_str().into(), partition: edge.partition, offset: last };
            Unloaded::Unreadable { place, error }
        };
        let mut reader = reader.resume(edge.partition, last).limit(1).open().await.map_err(unreadable)?;
        let mut batch = match reader.next_batch().await {
            Some(batch) => batch.map_err(unreadable)?,
            None => return Ok(false),
        };
        match batch.next_encoded() {
            Some(record) => Ok(record.map_err(unreadable)?.1 == known),
            None => Ok(false),
        }
    }

    fn at_snapshot(&self, state: S::State, head: &Head, log: Log) -> Start<S::State> {
        let place = |edge: &Edge| (edge.next_offset, edge.append_time_us);
        let inputs = self.lanes.iter().map(|lane| {
            let edge = edge_of(&head.inputs, &lane.held.topic, lane.held.partition);
            edge.map(place).expect("the inputs were compared")
        });
        let own = head.outputs.iter().filter_map(|edge| {
            let topic = self.outputs.iter().position(|topic| topic.name == edge.topic)?;
            let end = OwnEnd { next_offset: edge.next_offset, append_time_us: edge.append_time_us };
            Some(((topic, edge.partition), end))
        });
        Start { state, inputs: inputs.collect(), own: own.collect(), newest_id: head.newest_id.clone(), log }
    }
}

/// A snapshot that fits.
struct Snapped<T> {
    state: T,
    head: Head,
}

fn edge_of<'a>(edges: &'a [Edge], topic: &str, partition: u32) -> Option<&'a Edge> {
    edges.iter().find(|edge| edge.topic == topic && edge.partition == partition)
}
