//! Holds what was read against the file: every line once, equal, its invoice's lines rising, offsets without a hole.
//! Counting would not do: the file has exact duplicates, which only a line's number tells apart.

use std::collections::HashMap;

use tillroll_client::Received;

use crate::cmd::demo::day::Day;

/// What the proof looks at.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    partition: u32,
    offset: u64,
    id: String,
    value: Vec<u8>,
}

impl From<Received> for Seen {
    fn from(received: Received) -> Self {
        Self {
            partition: received.partition,
            offset: received.offset,
            id: received.record.id,
            value: received.record.value.to_vec(),
        }
    }
}

/// What is proven so far.
pub(super) struct Proof<'a> {
    day: &'a Day,
    found: Vec<bool>,
    next_offset: HashMap<u32, u64>,
    /// By invoice: its partition and the last line found.
    last: HashMap<&'a str, (u32, usize)>,
    wrong: Option<String>,
}

impl<'a> Proof<'a> {
    /// Nothing yet.
    pub(super) fn new(day: &'a Day) -> Self {
        let found = vec![false; day.lines.len()];
        Self { day, found, next_offset: HashMap::new(), last: HashMap::new(), wrong: None }
    }

    /// One record, in the order of reading. The first thing that is wrong is kept.
    pub(super) fn take(&mut self, seen: &Seen) {
        if self.wrong.is_none()
            && let Err(wrong) = self.check(seen)
        {
            self.wrong = Some(format!("partition {} offset {}: {wrong}", seen.partition, seen.offset));
        }
    }

    fn check(&mut self, seen: &Seen) -> Result<(), String> {
        let next = self.next_offset.entry(seen.partition).or_insert(0);
        if seen.offset != *next {
            return Err(format!("offset {next} was due"));
        }
        *next += 1;
        let number = seen.id.rsplit_once('#').and_then(|(_, number)| number.parse::<usize>().ok());
        let Some((number, line)) =
            number.and_then(|number| Some((number, self.day.lines.get(number.checked_sub(1)?)?)))
        else {
            return Err(format!("{:?} is no line of the file", seen.id));
        };
        if std::mem::replace(&mut self.found[number - 1], true) {
            return Err(format!("line {number} a second time"));
        }
        let value: serde_json::Value = serde_json::from_slice(&seen.value).map_err(|_| "no JSON".to_owned())?;
        let equal = |(column, field): (&String, &String)| value[column.as_str()].as_str() == Some(field);
        let fields = value.as_object().map_or(0, serde_json::Map::len);
        if fields != line.len() || !self.day.columns.iter().zip(line).all(equal) {
            return Err(format!("line {number} is not the one of the file"));
        }
        let invoice = line.first().map(String::as_str).unwrap_or_default();
        match self.last.insert(invoice, (seen.partition, number)) {
            Some((partition, before)) if partition != seen.partition || before > number => {
                Err(format!("line {number} of invoice {invoice} comes behind line {before}"))
            }
            _ => Ok(()),
        }
    }

    /// How many lines are proven, which is all of them; or what is wrong.
    pub(super) fn end(self) -> Result<u64, String> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        match self.found.iter().position(|found| !found) {
            Some(missing) => Err(format!("line {} is not there", missing + 1)),
            None => Ok(self.found.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(day: &Day) -> Vec<Seen> {
        let seen = |(offset, record): (u64, &tillroll_client::Record)| Seen {
            partition: 0,
            offset,
            id: record.id.clone(),
            value: record.value.to_vec(),
        };
        (0..).zip(&day.records).map(seen).collect()
    }

    fn check(change: impl FnOnce(&mut Vec<Seen>)) -> Result<u64, String> {
        let day = Day::small();
        let mut log = good(&day);
        change(&mut log);
        let mut proof = Proof::new(&day);
        for seen in &log {
            proof.take(seen);
        }
        proof.end()
    }

    #[test]
    fn a_good_log_is_proven() {
        assert_eq!(check(|_| {}), Ok(3));
    }

    #[test]
    fn every_damage_is_named() {
        let refused = |change: fn(&mut Vec<Seen>), named: &str| {
            let wrong = check(change).expect_err(named);
            assert!(wrong.contains(named), "{wrong}");
        };
        refused(|log| drop(log.pop()), "line 3 is not there");
        refused(|log| drop(log.remove(1)), "offset 1 was due");
        refused(|log| log[1].id = log[0].id.clone(), "line 1 a second time");
        refused(|log| log[1].id = "x#9".into(), "no line of the file");
        refused(|log| log[2].value = log[0].value.clone(), "line 3 is not the one of the file");
        refused(
            |log| {
                log.swap(0, 1);
                (log[0].offset, log[1].offset) = (0, 1);
            },
            "comes behind",
        );
        refused(|log| (log[1].partition, log[1].offset, log[2].offset) = (1, 0, 1), "comes behind");
    }
}
