//! Decisions about producers and topics: who is registered, which names are taken.

use std::sync::Arc;

use crate::{
    admit::{check_name, is_own_name, not_found},
    error::{Difference, Refusal},
    id::{Lsn, ProducerId, TopicId},
    journal::op::{Op, ProducerOpenOp, TopicCreateOp},
    limits,
    request::{
        Appended, AppendedBatch, InitProducer, ProducerOpened, ProducerView, RecentAppend, TopicConfig, TopicCreated,
        TopicView,
    },
    sequence::decide::View,
    table::{
        Applied,
        row::{AnswerRow, ProducerRow, TopicRow},
    },
};

/// A frame's operations and the answer to it, or an answer that needs no frame.
pub(super) enum Verdict<T> {
    /// Write this, then say that.
    Write(Vec<Op>, T),
    /// Say that, once the frame that it rests on is published.
    Say(Result<T, Refusal>, Lsn),
}

/// The view of a topic's row.
pub(crate) fn view(row: &TopicRow) -> TopicView {
    TopicView { name: row.name.clone(), id: row.id, config: row.config, created_us: row.created_us }
}

/// The view of a producer's row.
pub(crate) fn producer_view(row: &ProducerRow) -> ProducerView {
    ProducerView {
        name: row.name.clone(),
        epoch: row.epoch,
        next_sequence: row.last_sequence + 1,
        accepted_records: row.accepted_records,
        idle_expiry_ms: row.idle_expiry_us / 1_000,
        last_us: row.last_us,
        answers: row.answers.len() as u64,
    }
}

/// Registers a producer, or raises the epoch of the one that has the name.
pub(super) fn init_producer(state: View<'_>, init: &InitProducer, next_id: u64) -> Verdict<ProducerOpened> {
    let say = |refusal| Verdict::Say(Err(refusal), Lsn(0));
    if let Err(refusal) = check_init(init) {
        return say(refusal);
    }
    let named = |name| state.ahead.producer_id(state.applied, name);
    let (found, rests_on) = init.name.as_deref().map_or((None, Lsn(0)), named);
    if let (None, Some(name)) = (found, init.name.as_deref())
        && is_own_name(name)
    {
        // A made-up name that is gone has expired; registered again it would pass for the one that was.
        return Verdict::Say(Err(Refusal::ProducerUnknown { producer: name.to_owned() }), rests_on);
    }
    if found.is_none() && state.counts.producers >= limits::PRODUCERS_MAX as u64 {
        return say(Refusal::ProducersFull { limit: limits::PRODUCERS_MAX as u64 });
    }
    let id = found.unwrap_or(ProducerId(next_id));
    let name = init.name.clone().unwrap_or_else(|| format!("_p-{next_id:016x}"));
    let (row, ahead) = (state.applied.producers.get(&id), state.ahead.producer(id));
    let epoch = state.lsn.get();
    let current =
        ahead.and_then(|ahead| ahead.epoch).map_or_else(|| row.map_or(0, |row| row.epoch), |(epoch, _)| epoch);
    if let Some(expected) = init.expected_epoch.filter(|expected| *expected != current) {
        let rests_on = ahead.and_then(|ahead| ahead.epoch).map_or(rests_on, |(_, lsn)| lsn);
        let refusal = if found.is_some() {
            Refusal::ProducerFenced { producer: name, epoch: expected, current }
        } else {
            Refusal::ProducerUnknown { producer: name }
        };
        return Verdict::Say(Err(refusal), rests_on);
    }
    let answers = || {
        let applied = row.map(|row| row.answers.iter()).unwrap_or_default();
        applied.chain(ahead.map(|ahead| ahead.answers.iter()).unwrap_or_default())
    };
    let records_ahead: u64 = ahead.iter().flat_map(|ahead| &ahead.answers).map(|answer| records(answer)).sum();
    let next_sequence =
        answers().next_back().map_or(row.map_or(0, |row| row.last_sequence), |answer| answer.sequence) + 1;
    let opened = ProducerOpened {
        name: name.clone(),
        epoch,
        next_sequence,
        accepted_records: row.map_or(0, |row| row.accepted_records) + records_ahead,
    };
    let idle_expiry_us = init.idle_expiry_ms * 1_000;
    Verdict::Write(vec![Op::ProducerOpen(ProducerOpenOp { producer: id, epoch, idle_expiry_us, name })], opened)
}

/// The newest answers of a producer, oldest first: those that fit an answer to its registration. The flag: there are
/// older ones.
pub(crate) fn newest_appends(applied: &Applied, row: &ProducerRow) -> (Vec<RecentAppend>, bool) {
    let mut room = limits::RECENT_BYTES_MAX;
    let fits = |answer: &&Arc<AnswerRow>| {
        room = room.saturating_sub(recent_bytes(answer));
        room > 0
    };
    let newest: Vec<_> = row.answers.iter().rev().take(limits::PRODUCER_WINDOW).take_while(fits).collect();
    let has_older = newest.len() < row.answers.len();
    (newest.into_iter().rev().map(|answer| recent_append(applied, answer)).collect(), has_older)
}

fn check_init(init: &InitProducer) -> Result<(), Refusal> {
    match &init.name {
        Some(name) if !is_own_name(name) => check_name("producer_id", name)?,
        _ => {}
    }
    let own = init.name.as_deref().is_none_or(is_own_name);
    let (min, max) = (u64::from(own), limits::PRODUCER_IDLE_MS_MAX);
    if (min..=max).contains(&init.idle_expiry_ms) {
        return Ok(());
    }
    Err(Refusal::SettingOutOfRange { field: "idle_expiry_ms", min, max, actual: init.idle_expiry_ms })
}

fn records(answer: &AnswerRow) -> u64 {
    answer.placed.iter().map(|placed| u64::from(placed.record_count)).sum()
}

/// What an answer takes in a message, at most.
pub(crate) fn recent_bytes(answer: &AnswerRow) -> usize {
    64 + answer.placed.len() * (limits::NAME_BYTES_MAX + 64)
}

/// An answer as it is told.
pub(crate) fn recent_append(applied: &Applied, answer: &AnswerRow) -> RecentAppend {
    let batches = answer.placed.iter().map(|placed| AppendedBatch {
        batch_index: placed.batch_index,
        topic: applied.topics.get(&placed.lane.topic).map(|topic| topic.name.clone()).unwrap_or_default(),
        lane: placed.lane,
        base: placed.base,
        record_count: placed.record_count,
        record_indexes: Vec::new(),
    });
    let appended = Appended {
        batches: batches.collect(),
        duplicate: true,
        append_time_us: answer.time_us,
        next_sequence: answer.sequence + 1,
        lsn: answer.lsn,
    };
    RecentAppend { sequence: answer.sequence, appended }
}

/// Creates a topic, or finds it standing with the same configuration.
pub(super) fn create_topic(
    state: View<'_>,
    name: &str,
    config: TopicConfig,
    dry_run: bool,
    next_id: u64,
    time_us: i64,
) -> Verdict<TopicCreated> {
    if let Err(refusal) = check_name("name", name).and_then(|()| check_config(&config)) {
        return Verdict::Say(Err(refusal), Lsn(0));
    }
    let (found, rests_on) = state.ahead.topic(state.applied, name);
    if let Some(row) = found {
        let differences = differences(&row.config, &config);
        let answer = if differences.is_empty() {
            Ok(TopicCreated { topic: view(row), created: false })
        } else {
            Err(Refusal::TopicExists { topic: name.to_owned(), differences })
        };
        return Verdict::Say(answer, rests_on);
    }
    if state.counts.topics >= limits::TOPICS_MAX as u64 {
        return Verdict::Say(Err(Refusal::TopicsFull { limit: limits::TOPICS_MAX as u64 }), Lsn(0));
    }
    let (limit, actual) = (limits::PARTITIONS_ALL_MAX, state.counts.partitions + u64::from(config.partitions));
    if actual > limit {
        return Verdict::Say(Err(Refusal::PartitionsFull { limit, actual }), Lsn(0));
    }
    let id = TopicId(next_id);
    let topic = TopicView { name: name.to_owned(), id, config, created_us: time_us };
    let created = TopicCreated { topic, created: true };
    if dry_run {
        return Verdict::Say(Ok(created), rests_on);
    }
    Verdict::Write(vec![Op::TopicCreate(TopicCreateOp { topic: id, config, name: name.to_owned() })], created)
}

fn check_config(config: &TopicConfig) -> Result<(), Refusal> {
    let within = |field, min: u32, max: u32, actual: u32| {
        let (min, max, actual) = (u64::from(min), u64::from(max), u64::from(actual));
        let refusal = Refusal::SettingOutOfRange { field, min, max, actual };
        if (min..=max).contains(&actual) { Ok(()) } else { Err(refusal) }
    };
    within("partitions", 1, limits::PARTITIONS_MAX, config.partitions)?;
    within("max_record_bytes", 1, limits::RECORD_BYTES_MAX, config.max_record_bytes)?;
    within("segment_bytes", limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX, config.segment_bytes)
}

fn differences(has: &TopicConfig, asked: &TopicConfig) -> Vec<Difference> {
    let fields = [
        ("partitions", has.partitions.to_string(), asked.partitions.to_string()),
        ("codec", format!("{:?}", has.codec).to_lowercase(), format!("{:?}", asked.codec).to_lowercase()),
        ("max_record_bytes", has.max_record_bytes.to_string(), asked.max_record_bytes.to_string()),
        ("segment_bytes", has.segment_bytes.to_string(), asked.segment_bytes.to_string()),
    ];
    let differ = fields.into_iter().filter(|(_, has, asked)| has != asked);
    differ.map(|(field, has, asked)| Difference { field, has, asked }).collect()
}

/// Forgets a producer: what it still sends is refused, and its name may be registered anew.
pub(super) fn delete_producer(state: View<'_>, name: &str, epoch: Option<u64>) -> Verdict<()> {
    let (found, rests_on) = state.ahead.producer_id(state.applied, name);
    let Some(id) = found else {
        return Verdict::Say(Err(Refusal::ProducerUnknown { producer: name.to_owned() }), rests_on);
    };
    let ahead = state.ahead.producer(id).and_then(|ahead| ahead.epoch);
    let stands = || (state.applied.producers.get(&id).map_or(0, |row| row.epoch), rests_on);
    let (current, since) = ahead.unwrap_or_else(stands);
    match epoch.filter(|epoch| *epoch != current) {
        Some(epoch) => Verdict::Say(Err(Refusal::ProducerFenced { producer: name.to_owned(), epoch, current }), since),
        None => Verdict::Write(vec![Op::ProducerExpire(id)], ()),
    }
}

/// Deletes a topic of exactly this id, so that a late delete cannot hit one that was made anew.
pub(super) fn delete_topic(state: View<'_>, name: &str, id: TopicId) -> Verdict<()> {
    let (found, rests_on) = state.ahead.topic(state.applied, name);
    match found {
        None => Verdict::Say(Err(not_found(name)), rests_on),
        Some(row) if row.id != id => {
            let (topic, pinned) = (name.to_owned(), id.hex());
            Verdict::Say(Err(Refusal::TopicRecreated { topic, pinned, current: Some(row.id) }), rests_on)
        }
        Some(_) => Verdict::Write(vec![Op::TopicDelete(id)], ()),
    }
}
