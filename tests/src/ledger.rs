//! What was asked, what was answered and what was seen: everything that a promise is held against.
//!
//! The ledger lives outside the log and survives its crashes. Each record's value names the append, the part and the
//! place that it belongs to, so that a record found in the log says whose it is.

use std::collections::BTreeMap;

use tillroll_engine::{
    engine::Engine,
    error::Refusal,
    id::{Lane, Offset, Partition, TopicId},
    record::RecordSet,
    request::{Appended, CursorCommit},
    ticket::Ticket,
};

/// What became of an append.
#[derive(Debug)]
pub enum Outcome {
    /// No answer yet.
    Pending(Ticket<Appended>),
    /// Accepted: on the disk for good.
    Acked(Appended),
    /// Refused: nothing of it was written.
    Refused(Refusal),
    /// Nobody knows.
    Unknown,
}

/// Records of one append that go to one lane, next to each other.
#[derive(Clone, Debug)]
pub struct Part {
    /// The topic's name.
    pub topic: String,
    /// Where.
    pub lane: Lane,
    /// The values, in order.
    pub values: Vec<Vec<u8>>,
}

use crate::members::Members;

/// An append that was made.
#[derive(Debug)]
pub struct Entry {
    /// Its records.
    pub parts: Vec<Part>,
    /// The producer's sequence, when it was stamped.
    pub sequence: Option<u64>,
    /// Cursors that it moves.
    pub commits: Vec<CursorCommit>,
    /// What became of it.
    pub outcome: Outcome,
}

/// Everything.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Appends, by number.
    pub entries: Vec<Entry>,
    /// What a reader saw of each lane, from its beginning.
    pub seen: BTreeMap<Lane, Vec<Vec<u8>>>,
    /// Topics whose creation was acked, and that nobody has tried to delete.
    pub topics: BTreeMap<String, (TopicId, u32)>,
    /// Topics whose deletion was tried: any of their records may be gone.
    pub doomed: Vec<TopicId>,
    /// Topics whose deletion was acked.
    pub deleted: Vec<TopicId>,
    /// The consumer group.
    pub members: Members,
}

/// A promise that was broken. The text names it.
pub type Broken = String;

impl Ledger {
    /// Takes the answers that are there.
    pub fn collect(&mut self) {
        for entry in &mut self.entries {
            let Outcome::Pending(ticket) = &entry.outcome else { continue };
            match ticket.try_take() {
                None => {}
                Some(Ok(appended)) => entry.outcome = Outcome::Acked(appended),
                Some(Err(Refusal::OutcomeUnknown(_))) => entry.outcome = Outcome::Unknown,
                Some(Err(refusal)) => entry.outcome = Outcome::Refused(refusal),
            }
        }
        let entries = &self.entries;
        self.members.collect(|number| matches!(entries[number].outcome, Outcome::Acked(_)));
    }

    /// The process is gone: what has no answer will never get one.
    pub fn crash(&mut self) {
        self.collect();
        self.members.crash();
        for entry in &mut self.entries {
            if let Outcome::Pending(ticket) = &entry.outcome {
                // What was never taken up must not be in the log. Stamped ones are sent again under their sequence.
                let is_nowhere = ticket.withdraw() && entry.sequence.is_none();
                entry.outcome = if is_nowhere { Outcome::Refused(Refusal::Stopping) } else { Outcome::Unknown };
            }
        }
    }

    /// Reads every lane of every topic and holds it against everything.
    pub fn check(&mut self, engine: &Engine) -> Result<(), Broken> {
        let mut found: BTreeMap<usize, usize> = BTreeMap::new();
        for (name, (id, partitions)) in &self.topics {
            let topic =
                engine.topic(name).map_err(|refusal| format!("P1 topic {name} was acked and is gone: {refusal}"))?;
            if topic.id != *id {
                return Err(format!("P3 topic {name} had id {id} and has {}", topic.id));
            }
            for partition in 0..*partitions {
                let lane = Lane { topic: *id, partition: Partition(partition) };
                let values = read_lane(engine, lane)?;
                self.check_lane(lane, &values, &mut found)?;
                self.seen.insert(lane, values);
            }
        }
        for topic in engine.topics("", None, 10_000) {
            if self.deleted.contains(&topic.id) {
                return Err(format!("P1 topic {} was deleted, acked, and is back", topic.name));
            }
        }
        self.check_whole(&found)?;
        self.members.check(engine, |number| found.contains_key(&number))
    }

    fn is_doomed(&self, entry: &Entry) -> bool {
        entry.parts.iter().any(|part| self.doomed.contains(&part.lane.topic))
    }

    /// One lane: nothing seen is gone, acked records stand where they were acked, and every record is somebody's.
    fn check_lane(&self, lane: Lane, values: &[Vec<u8>], found: &mut BTreeMap<usize, usize>) -> Result<(), Broken> {
        if let Some(seen) = self.seen.get(&lane)
            && !values.starts_with(seen)
        {
            let at = seen.iter().zip(values).position(|(seen, now)| seen != now).unwrap_or(values.len());
            return Err(format!("P2 lane {lane}: offset {at} was read before and is not the same now"));
        }
        for (number, entry) in self.entries.iter().enumerate() {
            let Outcome::Acked(appended) = &entry.outcome else { continue };
            for (part, batch) in entry.parts.iter().zip(&appended.batches) {
                let start = usize::try_from(batch.base.0).expect("small");
                let stands = values.get(start..start + part.values.len());
                if batch.lane == lane && stands != Some(&part.values[..]) {
                    return Err(format!("P1 append {number} was acked at offset {start} of {lane} and is not there"));
                }
            }
        }
        let mut at = 0;
        while at < values.len() {
            let (number, part, place) = name_of(&values[at])
                .ok_or_else(|| format!("P7 lane {lane} offset {at}: a value that nobody appended"))?;
            let entry = self.entries.get(number).ok_or_else(|| format!("P7 append {number} was never made"))?;
            let wanted = entry.parts.get(part).filter(|part| part.lane == lane);
            let wanted = wanted.ok_or_else(|| format!("P7 append {number} has no part {part} on {lane}"))?;
            if place != 0 || values.get(at..at + wanted.values.len()) != Some(&wanted.values[..]) {
                return Err(format!("P5 append {number} part {part} is not whole at offset {at} of {lane}"));
            }
            if let Outcome::Refused(refusal) = &entry.outcome {
                return Err(format!("P5 append {number} was refused ({refusal}) and is at offset {at} of {lane}"));
            }
            *found.entry(number).or_default() += 1;
            at += wanted.values.len();
        }
        Ok(())
    }

    /// Every append that is there is there with all its parts, once.
    fn check_whole(&self, found: &BTreeMap<usize, usize>) -> Result<(), Broken> {
        for (number, parts) in found {
            let entry = &self.entries[*number];
            if *parts > entry.parts.len() {
                return Err(format!("P4 append {number} is in the log more than once"));
            }
            if *parts < entry.parts.len() && !self.is_doomed(entry) {
                return Err(format!("P5 append {number} has {parts} of {} parts in the log", entry.parts.len()));
            }
        }
        Ok(())
    }

    /// Whether an append is in the log, as last read.
    pub fn is_present(&self, number: usize) -> bool {
        let entry = &self.entries[number];
        entry.parts.first().is_some_and(|part| {
            let values = self.seen.get(&part.lane).map(Vec::as_slice).unwrap_or_default();
            part.values.first().is_some_and(|first| values.contains(first))
        })
    }
}

/// The value of a record: which append, which part, which place in it, and some filling.
///
/// # Panics
///
/// Never: letters are small numbers.
pub fn value(append: usize, part: usize, place: usize, filling: usize) -> Vec<u8> {
    let mut value = format!("{append}/{part}/{place}/").into_bytes();
    value.extend((0..filling).map(|at| b'a' + u8::try_from((append + place + at) % 26).expect("a letter")));
    value
}

fn name_of(value: &[u8]) -> Option<(usize, usize, usize)> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.split('/');
    let mut number = || parts.next()?.parse().ok();
    Some((number()?, number()?, number()?))
}

/// All visible records of a lane.
///
/// # Errors
///
/// The promise that the read breaks.
///
/// # Panics
///
/// When a lane holds more records than memory could.
pub fn read_lane(engine: &Engine, lane: Lane) -> Result<Vec<Vec<u8>>, Broken> {
    let (mut next, mut values) = (Offset(0), Vec::new());
    loop {
        let answer =
            engine.read(lane, next, 64 << 10).map_err(|fault| format!("P7 lane {lane} offset {next}: {fault}"))?;
        if answer.chunks.is_empty() {
            let end = engine.extent(lane).map_err(|fault| format!("P3 lane {lane}: {fault}"))?.end;
            let count = values.len() as u64;
            return if end.0 == count {
                Ok(values)
            } else {
                Err(format!("P3 lane {lane} ends at {end}, {count} read"))
            };
        }
        for chunk in &answer.chunks {
            chunk.batch.verify().map_err(|fault| format!("P7 lane {lane} offset {}: {fault}", chunk.base))?;
            let plain = chunk.batch.decode().map_err(|fault| format!("P7 lane {lane}: {fault}"))?;
            let skip = usize::try_from(next.since(chunk.base)).expect("small");
            if chunk.base > next {
                return Err(format!("P3 lane {lane}: asked {next}, got {}", chunk.base));
            }
            for record in RecordSet::new(&plain).iter().skip(skip) {
                let (_, view) = record.map_err(|fault| format!("P7 lane {lane}: {fault}"))?;
                values.push(view.value.to_vec());
            }
            next = chunk.end;
        }
        if next != answer.next {
            return Err(format!("P3 lane {lane}: chunks end at {next}, the answer at {}", answer.next));
        }
    }
}
