//! The overlay: rows touched by frames that are on their way to the disk and not applied yet.
//!
//! Only `sequence` has it. An entry leaves when `applied` passes its LSN, and poison drops all of it. It is never
//! written anywhere: a checkpoint that stored it would remember a producer's sequence whose frame never became
//! durable, and answer the retry with an offset that does not exist.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry},
    sync::Arc,
};

use crate::{
    id::{GroupId, Lane, Lsn, Offset, ProducerId, TopicId},
    journal::group_op::GroupOp,
    table::{
        Applied,
        group::GroupRow,
        row::{AnswerRow, TopicRow},
    },
};

/// What is known of a producer beyond what is applied.
#[derive(Clone, Debug, Default)]
pub(super) struct ProducerAhead {
    /// The epoch that counts, when a registration is on its way.
    pub(super) epoch: Option<(u64, Lsn)>,
    /// The frame that forgets it, when one is on its way. A later registration of its name gets another id.
    gone: Option<Lsn>,
    /// Answers on their way, oldest first.
    pub(super) answers: VecDeque<Arc<AnswerRow>>,
}

impl ProducerAhead {
    /// What these answers take in memory.
    pub(super) fn answer_bytes(&self) -> u64 {
        self.answers.iter().map(|answer| answer.bytes()).sum()
    }
}

/// A topic's name beyond what is applied.
#[derive(Clone, Debug)]
pub(super) enum NameAhead {
    /// It will be this topic's.
    Created(TopicRow),
    /// It will be nobody's.
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Lane(Lane),
    Producer(ProducerId),
    ProducerName(String),
    TopicName(String),
    Topic(TopicId),
    Group(GroupId),
    GroupName(String),
}

/// All entries, and the order in which they leave.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    lanes: BTreeMap<Lane, (Offset, Lsn)>,
    producers: BTreeMap<ProducerId, ProducerAhead>,
    /// None: the name will be free.
    producer_names: BTreeMap<String, (Option<ProducerId>, Lsn)>,
    topic_names: BTreeMap<String, (NameAhead, Lsn)>,
    deleted: BTreeMap<TopicId, Lsn>,
    /// None: it will be gone.
    groups: BTreeMap<GroupId, (Option<Arc<GroupRow>>, Lsn)>,
    group_names: BTreeMap<String, (GroupId, Lsn)>,
    /// What all answers on their way take in memory.
    answer_bytes: u64,
    touched: VecDeque<(Lsn, Key)>,
}

impl Ahead {
    /// Drops what `applied` has passed.
    pub(super) fn prune(&mut self, applied: Lsn) {
        while self.touched.front().is_some_and(|(lsn, _)| *lsn <= applied) {
            let Some((lsn, key)) = self.touched.pop_front() else { return };
            match key {
                Key::Lane(lane) => remove_at(&mut self.lanes, &lane, lsn),
                Key::ProducerName(name) => remove_at(&mut self.producer_names, &name, lsn),
                Key::TopicName(name) => remove_at(&mut self.topic_names, &name, lsn),
                Key::Topic(topic) => {
                    self.deleted.remove(&topic);
                }
                Key::Group(group) => remove_at(&mut self.groups, &group, lsn),
                Key::GroupName(name) => remove_at(&mut self.group_names, &name, lsn),
                Key::Producer(producer) => self.prune_producer(producer, applied),
            }
        }
    }

    fn prune_producer(&mut self, producer: ProducerId, applied: Lsn) {
        let Some(entry) = self.producers.get_mut(&producer) else { return };
        entry.epoch = entry.epoch.filter(|(_, lsn)| *lsn > applied);
        entry.gone = entry.gone.filter(|lsn| *lsn > applied);
        while let Some(answer) = entry.answers.pop_front_if(|answer| answer.lsn <= applied) {
            self.answer_bytes -= answer.bytes();
        }
        if entry.epoch.is_none() && entry.gone.is_none() && entry.answers.is_empty() {
            self.producers.remove(&producer);
        }
    }

    /// A lane's next offset, and the frame that this rests on.
    pub(super) fn lane_end(&self, applied: &Applied, lane: Lane) -> (Offset, Lsn) {
        let stands = || (applied.lanes.get(&lane).map_or(Offset(0), |end| end.end), Lsn(0));
        self.lanes.get(&lane).copied().unwrap_or_else(stands)
    }

    /// A lane grows.
    pub(super) fn extend(&mut self, lane: Lane, end: Offset, lsn: Lsn) {
        self.lanes.insert(lane, (end, lsn));
        self.touched.push_back((lsn, Key::Lane(lane)));
    }

    /// A producer's id by name, and the frame that this rests on.
    pub(super) fn producer_id(&self, applied: &Applied, name: &str) -> (Option<ProducerId>, Lsn) {
        let stands = || (applied.producer_names.get(name).copied(), Lsn(0));
        self.producer_names.get(name).copied().unwrap_or_else(stands)
    }

    /// What is on its way for a producer.
    pub(super) fn producer(&self, producer: ProducerId) -> Option<&ProducerAhead> {
        self.producers.get(&producer)
    }

    /// What all answers on their way take in memory.
    pub(super) fn answer_bytes(&self) -> u64 {
        self.answer_bytes
    }

    /// A producer is registered or taken over.
    pub(super) fn open_producer(&mut self, producer: ProducerId, name: &str, epoch: u64, lsn: Lsn) {
        self.producers.entry(producer).or_default().epoch = Some((epoch, lsn));
        self.producer_names.insert(name.to_owned(), (Some(producer), lsn));
        self.touched.push_back((lsn, Key::Producer(producer)));
        self.touched.push_back((lsn, Key::ProducerName(name.to_owned())));
    }

    /// A producer is forgotten.
    pub(super) fn forget_producer(&mut self, applied: &Applied, producer: ProducerId, lsn: Lsn) {
        let ahead = || self.producer_names.iter().find(|(_, (id, _))| *id == Some(producer)).map(|(name, _)| name);
        let name = applied.producers.get(&producer).map(|row| &row.name).or_else(ahead).cloned();
        if let Some(name) = name {
            self.producer_names.insert(name.clone(), (None, lsn));
            self.touched.push_back((lsn, Key::ProducerName(name)));
        }
        let entry = self.producers.entry(producer).or_default();
        self.answer_bytes -= entry.answer_bytes();
        *entry = ProducerAhead { gone: Some(lsn), ..ProducerAhead::default() };
        self.touched.push_back((lsn, Key::Producer(producer)));
    }

    /// A producer's append is on its way.
    pub(super) fn answer(&mut self, producer: ProducerId, answer: AnswerRow) {
        let lsn = answer.lsn;
        self.answer_bytes += answer.bytes();
        self.producers.entry(producer).or_default().answers.push_back(Arc::new(answer));
        self.touched.push_back((lsn, Key::Producer(producer)));
    }

    /// The topic that a name is, and the frame that this rests on.
    pub(super) fn topic<'a>(&'a self, applied: &'a Applied, name: &str) -> (Option<&'a TopicRow>, Lsn) {
        match self.topic_names.get(name) {
            Some((NameAhead::Created(row), lsn)) => (Some(row), *lsn),
            Some((NameAhead::Deleted, lsn)) => (None, *lsn),
            None => (applied.topic(name), Lsn(0)),
        }
    }

    /// The frame that deletes a topic, when one is on its way.
    pub(super) fn deletion(&self, topic: TopicId) -> Option<Lsn> {
        self.deleted.get(&topic).copied()
    }

    /// A topic is created.
    pub(super) fn create_topic(&mut self, row: TopicRow, lsn: Lsn) {
        self.touched.push_back((lsn, Key::TopicName(row.name.clone())));
        self.topic_names.insert(row.name.clone(), (NameAhead::Created(row), lsn));
    }

    /// A topic is deleted: how many cursors go with it.
    pub(super) fn delete_topic(&mut self, applied: &Applied, topic: TopicId, lsn: Lsn) -> u64 {
        let created = self.topic_names.values().find_map(|(ahead, _)| match ahead {
            NameAhead::Created(row) if row.id == topic => Some(row),
            _ => None,
        });
        if let Some(name) = created.or_else(|| applied.topics.get(&topic)).map(|row| row.name.clone()) {
            self.topic_names.insert(name.clone(), (NameAhead::Deleted, lsn));
            self.touched.push_back((lsn, Key::TopicName(name)));
        }
        self.deleted.insert(topic, lsn);
        self.touched.push_back((lsn, Key::Topic(topic)));
        self.forget_topic(applied, topic, lsn)
    }

    /// A consumer group, and the frame that this rests on.
    pub(super) fn group<'a>(&'a self, applied: &'a Applied, name: &str) -> (Option<&'a Arc<GroupRow>>, Lsn) {
        let named = self.group_names.get(name).map(|(id, _)| *id).or_else(|| applied.group_names.get(name).copied());
        let Some(id) = named else { return (None, Lsn(0)) };
        match self.groups.get(&id) {
            Some((row, lsn)) => (row.as_ref(), *lsn),
            None => (applied.groups.get(&id), Lsn(0)),
        }
    }

    /// A consumer group as it will be, by its id.
    pub(super) fn group_by_id<'a>(&'a self, applied: &'a Applied, id: GroupId) -> Option<&'a Arc<GroupRow>> {
        match self.groups.get(&id) {
            Some((row, _)) => row.as_ref(),
            None => applied.groups.get(&id),
        }
    }

    /// What became of a consumer group.
    pub(super) fn change_group(&mut self, applied: &Applied, op: &GroupOp, time_us: i64, lsn: Lsn) {
        let id = op.group();
        match op {
            GroupOp::Create(create) => {
                self.groups.insert(id, (Some(Arc::new(GroupRow::new(create, lsn))), lsn));
                self.group_names.insert(create.name.clone(), (id, lsn));
                self.touched.push_back((lsn, Key::GroupName(create.name.clone())));
            }
            GroupOp::Delete(_) => {
                self.groups.insert(id, (None, lsn));
            }
            op => {
                let Some((row, touched)) = self.group_row(applied, id) else { return };
                Arc::make_mut(row).apply(op, lsn, time_us);
                *touched = lsn;
            }
        }
        self.touched.push_back((lsn, Key::Group(id)));
    }

    /// A group's row to be changed; none when it is gone.
    fn group_row(&mut self, applied: &Applied, id: GroupId) -> Option<(&mut Arc<GroupRow>, &mut Lsn)> {
        let (row, lsn) = match self.groups.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert((Some(applied.groups.get(&id)?.clone()), Lsn(0))),
        };
        row.as_mut().map(|row| (row, lsn))
    }

    /// The groups that read a topic know nothing of it any more: how many cursors go with it.
    fn forget_topic(&mut self, applied: &Applied, topic: TopicId, lsn: Lsn) -> u64 {
        let mut gone = 0;
        let ids: BTreeSet<GroupId> = applied.groups.keys().chain(self.groups.keys()).copied().collect();
        for id in ids {
            if self.group_by_id(applied, id).is_some_and(|row| row.reads(topic))
                && let Some((row, touched)) = self.group_row(applied, id)
            {
                let before = row.cursors.len() as u64;
                Arc::make_mut(row).forget_topic(topic);
                gone += before - row.cursors.len() as u64;
                *touched = lsn;
                self.touched.push_back((lsn, Key::Group(id)));
            }
        }
        gone
    }

    /// Forgets everything: none of it will be applied by this process.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Removes an entry unless a later frame touched it again.
fn remove_at<K: Ord, V>(entries: &mut BTreeMap<K, (V, Lsn)>, key: &K, lsn: Lsn) {
    if entries.get(key).is_some_and(|(_, touched)| *touched <= lsn) {
        entries.remove(key);
    }
}
