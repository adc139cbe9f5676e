//! The corridor's order, as a pure function: producer known → epoch → sequence → ids alive → assignment epochs →
//! cursor rules → checks → assign.
//!
//! A duplicate is answered before anything else is looked at: whatever fences and checks say now, what was accepted
//! stands. A refusal consumes neither sequence nor offset.

use std::collections::BTreeMap;

use crate::{
    admit::{AdmittedAppend, Part},
    error::{FailedCheck, Refusal},
    id::{Lane, Lsn, Offset, Partition, ProducerId},
    journal::op::{BatchOp, Op, StampOp},
    limits::PRODUCER_WINDOW,
    request::{Appended, AppendedBatch, Check, Stamp},
    sequence::{
        ahead::{Ahead, ProducerAhead},
        groups,
    },
    table::{
        Applied,
        applied::Sums,
        row::{AnswerRow, PlacedRow, ProducerRow},
    },
};

/// What becomes of an append.
pub(super) enum Decision {
    /// It becomes a frame.
    Accept(Accepted),
    /// It gets an answer without a frame, once the frame that the answer rests on is published.
    Answer(Box<Result<Appended, Refusal>>, Lsn),
}

/// An append that fits.
pub(super) struct Accepted {
    /// The frame's operations.
    pub(super) ops: Vec<Op>,
    /// Where its batches go.
    pub(super) placed: Vec<PlacedRow>,
    /// The stamp, with the producer's id.
    pub(super) stamp: Option<(ProducerId, Stamp)>,
}

/// Which state a decision looks at.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// What is durable.
    pub(super) applied: &'a Applied,
    /// What is on its way.
    pub(super) ahead: &'a Ahead,
    /// The number of the frame that the decision becomes, when it becomes one. An epoch that it begins is this number,
    /// so none is used twice, whatever was deleted and has the same name again.
    pub(super) lsn: Lsn,
    /// How much there will be of what is limited.
    pub(super) counts: Counts,
}

/// How much there will be, once what is on its way is applied, of what is limited over the whole shard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) topics: u64,
    pub(super) partitions: u64,
    pub(super) producers: u64,
    pub(super) groups: u64,
    pub(super) cursors: u64,
    pub(super) members: u64,
    /// The most bytes that answers may take: see [`crate::settings::Settings::answers_bytes`].
    pub(super) answers_max: u64,
}

impl Counts {
    /// What is applied.
    pub(super) fn of(applied: &Applied, answers_max: u64) -> Self {
        let Sums { partitions, cursors, members, .. } = applied.sums;
        let (topics, producers) = (applied.topics.len() as u64, applied.producers.len() as u64);
        Self { topics, partitions, producers, groups: applied.groups.len() as u64, cursors, members, answers_max }
    }
}

fn refuse(refusal: Refusal, rests_on: Lsn) -> Decision {
    Decision::Answer(Box::new(Err(refusal)), rests_on)
}

/// Decides an append.
pub(super) fn append(view: View<'_>, append: &AdmittedAppend) -> Decision {
    let mut producer = None;
    if let Some(stamp) = &append.stamp {
        match sequence(view, append, stamp) {
            Ok(id) => producer = Some((id, stamp.clone())),
            Err(decision) => return *decision,
        }
    }
    if let Some(missing) = &append.missing {
        return refuse(missing.clone(), Lsn(0));
    }
    for part in &append.parts {
        if let Some((refusal, rests_on)) = dead(view, part) {
            return refuse(refusal, rests_on);
        }
    }
    let held = append.checks.iter().enumerate().filter_map(|(index, check)| match check {
        Check::HeldAssignment(held) => Some((index, held)),
        Check::NextOffset { .. } => None,
    });
    let judged = match groups::judge_all(view, &append.commits, &held.collect::<Vec<_>>()) {
        Ok(judged) => judged,
        Err((refusal, rests_on)) => return refuse(refusal, rests_on),
    };
    // All that fails is told; what is wrong with a cursor weighs more than where a partition ends.
    let (faults, rests_on) = (judged.faults, judged.rests_on);
    match failed_checks(view, &append.checks) {
        Ok((checks, _)) if checks.is_empty() && faults.is_empty() => {}
        Ok((checks, lsn)) if faults.is_empty() => return refuse(Refusal::ExpectedOffsetMismatch { checks }, lsn),
        Ok((checks, lsn)) => return refuse(Refusal::CursorRefused { faults, checks }, rests_on.max(lsn)),
        Err((refusal, lsn)) if faults.is_empty() => return refuse(refusal, lsn),
        Err(_) => return refuse(Refusal::CursorRefused { faults, checks: Vec::new() }, rests_on),
    }
    let mut accepted = assign(view, append, producer);
    accepted.ops.extend(judged.ops.into_iter().map(Op::Group));
    Decision::Accept(accepted)
}

/// Looks at the stamp: the producer's id when this is its next append, and a decision otherwise.
fn sequence(view: View<'_>, append: &AdmittedAppend, stamp: &Stamp) -> Result<ProducerId, Box<Decision>> {
    let no = |refusal, rests_on| Err(Box::new(refuse(refusal, rests_on)));
    let producer = stamp.producer.clone();
    let unknown = Refusal::ProducerUnknown { producer: producer.clone() };
    let (id, known_since) = view.ahead.producer_id(view.applied, &stamp.producer);
    let Some(id) = id else { return no(unknown, known_since) };
    let (row, ahead) = (view.applied.producers.get(&id), view.ahead.producer(id));
    let stands = (row.map_or(0, |row| row.epoch), known_since);
    let (current, raised) = ahead.and_then(|ahead| ahead.epoch).unwrap_or(stands);
    if stamp.epoch < current {
        return no(Refusal::ProducerFenced { producer, epoch: stamp.epoch, current }, raised);
    }
    if stamp.epoch > current {
        return no(unknown, raised);
    }
    let answers_ahead = ahead.map(|ahead| &ahead.answers);
    let newest = answers_ahead.and_then(|answers| answers.back());
    let last = newest.map_or(row.map_or(0, |row| row.last_sequence), |answer| answer.sequence);
    let rests_on = newest.map_or(known_since, |answer| answer.lsn);
    if stamp.sequence > last + 1 {
        return no(Refusal::SequenceGap { producer, sequence: stamp.sequence, next: last + 1 }, rests_on);
    }
    if stamp.sequence == last + 1 {
        let in_flight = answers_ahead.map_or(0, std::collections::VecDeque::len);
        if in_flight >= PRODUCER_WINDOW {
            return no(Refusal::TooManyInFlight { producer, limit: PRODUCER_WINDOW as u64 }, Lsn(0));
        }
        if let Err(refusal) = answer_fits(view, append, stamp, row, ahead) {
            return no(refusal, Lsn(0));
        }
        return Ok(id);
    }
    let applied = row.map(|row| &row.answers);
    let remembered = || applied.into_iter().flatten().chain(answers_ahead.into_iter().flatten());
    match remembered().find(|answer| answer.sequence == stamp.sequence) {
        Some(answer) if answer.content_hash == append.content_hash => {
            let appended = first_answer(view.applied, append, answer, last + 1);
            Err(Box::new(Decision::Answer(Box::new(Ok(appended)), answer.lsn)))
        }
        Some(answer) => no(Refusal::SequenceReused { producer, sequence: stamp.sequence }, answer.lsn),
        None => {
            let oldest = remembered().next().map_or(last + 1, |answer| answer.sequence);
            no(Refusal::SequenceForgotten { producer, sequence: stamp.sequence, oldest }, rests_on)
        }
    }
}

/// Whether the answer to an append may be remembered. Above the limit of all answers a producer may have as much as
/// falls to each that has any, and above twice the limit nothing more: the newest unconfirmed answers are never
/// forgotten, so the next append waits for a confirmation instead.
fn answer_fits(
    view: View<'_>,
    append: &AdmittedAppend,
    stamp: &Stamp,
    row: Option<&ProducerRow>,
    ahead: Option<&ProducerAhead>,
) -> Result<(), Refusal> {
    let (limit, more) = (view.counts.answers_max, AnswerRow::bytes_of(append.parts.len()));
    let sums = view.applied.sums;
    let all = sums.answer_bytes + view.ahead.answer_bytes() + more;
    if all <= limit {
        return Ok(());
    }
    let confirmed = row.map_or(0, |row| row.confirmed_bytes(stamp.answered_below));
    let own = row.map_or(0, ProducerRow::answer_bytes) + ahead.map_or(0, ProducerAhead::answer_bytes) + more;
    let (own, all) = (own - confirmed, all - confirmed);
    let share = limit / sums.answered.max(1);
    if all <= limit || (own <= share && all <= 2 * limit) {
        return Ok(());
    }
    Err(Refusal::AnswersFull { producer: stamp.producer.clone(), limit: share, actual: own })
}

/// The answer that a retry's first sending got.
fn first_answer(applied: &Applied, append: &AdmittedAppend, answer: &AnswerRow, next_sequence: u64) -> Appended {
    let parts: BTreeMap<(u32, Partition), &Part> =
        append.parts.iter().map(|part| ((part.batch_index, part.partition), part)).collect();
    let batch = |placed: &PlacedRow| {
        let asked = append.names.get(placed.batch_index as usize).cloned();
        let stored = || applied.topics.get(&placed.lane.topic).map(|topic| topic.name.clone()).unwrap_or_default();
        let part = parts.get(&(placed.batch_index, placed.lane.partition));
        AppendedBatch {
            batch_index: placed.batch_index,
            topic: asked.unwrap_or_else(stored),
            lane: placed.lane,
            base: placed.base,
            record_count: placed.record_count,
            record_indexes: part.map(|part| part.record_indexes.clone()).unwrap_or_default(),
        }
    };
    Appended {
        batches: answer.placed.iter().map(batch).collect(),
        duplicate: true,
        append_time_us: answer.time_us,
        next_sequence,
        lsn: answer.lsn,
    }
}

/// Whether a batch's topic was deleted, or deleted and made anew, since it was admitted.
fn dead(view: View<'_>, part: &Part) -> Option<(Refusal, Lsn)> {
    let deleting = view.ahead.deletion(part.topic_id);
    if deleting.is_none() && view.applied.live_topic(part.topic_id).is_some() {
        return None;
    }
    let refusal = crate::admit::not_found(&part.topic);
    Some((refusal, deleting.unwrap_or(Lsn(0))))
}

/// All expected offsets that do not hold.
fn failed_checks(view: View<'_>, checks: &[Check]) -> Result<(Vec<FailedCheck>, Lsn), (Refusal, Lsn)> {
    let (mut failed, mut rests_on) = (Vec::new(), Lsn(0));
    for (index, check) in checks.iter().enumerate() {
        let Check::NextOffset { topic, partition, next_offset } = check else { continue };
        let (partition, expected) = (*partition, *next_offset);
        let (row, named) = view.ahead.topic(view.applied, topic);
        let Some(row) = row else { return Err((crate::admit::not_found(topic), named)) };
        let count = row.config.partitions;
        if partition.0 >= count {
            return Err((Refusal::PartitionNotFound { topic: topic.clone(), partition, count }, named));
        }
        let (actual, lsn) = view.ahead.lane_end(view.applied, Lane { topic: row.id, partition });
        if actual != expected {
            failed.push(FailedCheck { index, topic: topic.clone(), partition, expected, actual });
            rests_on = rests_on.max(lsn).max(named);
        }
    }
    Ok((failed, rests_on))
}

/// Gives every batch its offset.
fn assign(view: View<'_>, append: &AdmittedAppend, stamp: Option<(ProducerId, Stamp)>) -> Accepted {
    let (mut ops, mut placed): (Vec<Op>, Vec<PlacedRow>) = (Vec::new(), Vec::new());
    // An append may hold several batches of one lane: the later one continues the earlier.
    let mut ends: BTreeMap<Lane, Offset> = BTreeMap::new();
    let is_alone = append.parts.len() == 1;
    for part in &append.parts {
        let lane = Lane { topic: part.topic_id, partition: part.partition };
        let base = ends.get(&lane).copied().unwrap_or_else(|| view.ahead.lane_end(view.applied, lane).0);
        let record_count = part.batch.record_count;
        if !is_alone {
            ends.insert(lane, base.plus(u64::from(record_count)));
        }
        placed.push(PlacedRow { batch_index: part.batch_index, lane, base, record_count });
        ops.push(Op::Batch(BatchOp { lane, batch_index: part.batch_index, base, batch: part.batch.clone() }));
    }
    if let Some((producer, stamp)) = &stamp {
        ops.push(Op::Stamp(StampOp {
            producer: *producer,
            epoch: stamp.epoch,
            sequence: stamp.sequence,
            answered_below: stamp.answered_below,
            content_hash: append.content_hash,
        }));
    }
    Accepted { ops, placed, stamp }
}
