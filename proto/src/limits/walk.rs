//! The walk over encoded bytes by tag and length.

use super::{Fault, Field, Kind, Row, Shape, Shapes};
use crate::reason;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const FIXED32: u8 = 5;

/// Fields of one message whose entries are counted. None has so many.
const FIELDS_MAX: usize = 32;

/// Deeper than any request of the contract.
const DEPTH_MAX: usize = 16;

/// Walks one message and those in it.
pub(super) fn message(shapes: &Shapes, shape: &Shape, bytes: &[u8]) -> Result<(), Fault> {
    at_depth(shapes, shape, bytes, DEPTH_MAX)
}

fn at_depth(shapes: &Shapes, shape: &Shape, bytes: &[u8], depth: usize) -> Result<(), Fault> {
    let mut counts = [0_u64; FIELDS_MAX];
    let mut walk = Walk { bytes };
    while !walk.bytes.is_empty() {
        let tag = walk.varint()?;
        let wire = (tag & 7) as u8;
        let number = usize::try_from(tag >> 3).map_err(|_| Fault::Malformed)?;
        let Some(field) = shape.fields.get(number).and_then(Option::as_ref) else {
            walk.skip(wire)?;
            continue;
        };
        let first = counts[number];
        if wire == LEN {
            let entry = walk.delimited()?;
            counts[number] += match field.kind {
                // A list of numbers is packed, unless somebody sends them one by one.
                Kind::Number(size) => packed(entry, size),
                Kind::Opaque | Kind::Message(_) => 1,
            };
            count(field, counts[number])?;
            size(field, first, entry.len())?;
            if let Kind::Message(inner) = field.kind {
                let depth = depth.checked_sub(1).ok_or(Fault::Malformed)?;
                at_depth(shapes, &shapes.messages[inner], entry, depth).map_err(|fault| within(fault, field, first))?;
            }
        } else {
            walk.skip(wire)?;
            counts[number] += 1;
            count(field, counts[number])?;
        }
    }
    Ok(())
}

/// Entries of a packed list.
fn packed(entry: &[u8], size: usize) -> u64 {
    let varints = || entry.iter().filter(|byte| **byte < 0x80).count();
    entry.len().checked_div(size).unwrap_or_else(varints) as u64
}

fn count(field: &Field, entries: u64) -> Result<(), Fault> {
    let limit = match (field.is_list, field.kind, field.row.and_then(|row| row.entries)) {
        (true, _, limit) => limit,
        // Set twice, a message would be merged: its lists would grow past their limits.
        (false, Kind::Message(_), _) => Some(1),
        (false, ..) => None,
    };
    match limit {
        Some(limit) if entries > limit => Err(too_large(field, field.name.to_owned(), "entries", limit, entries)),
        _ => Ok(()),
    }
}

fn size(field: &Field, index: u64, bytes: usize) -> Result<(), Fault> {
    match field.row.and_then(|row| row.bytes) {
        Some(limit) if bytes as u64 > limit => Err(too_large(field, place(field, index), "bytes", limit, bytes as u64)),
        _ => Ok(()),
    }
}

fn too_large(field: &Field, path: String, unit: &'static str, limit: u64, actual: u64) -> Fault {
    let reason = field.row.map_or(reason::REQUEST_TOO_LARGE, |row: &Row| row.reason);
    Fault::TooLarge { field: path, reason, unit, limit, actual }
}

fn place(field: &Field, index: u64) -> String {
    if field.is_list { format!("{}[{index}]", field.name) } else { field.name.to_owned() }
}

/// The same fault, seen from the message around.
fn within(fault: Fault, field: &Field, index: u64) -> Fault {
    match fault {
        Fault::TooLarge { field: inner, reason, unit, limit, actual } => {
            Fault::TooLarge { field: format!("{}.{inner}", place(field, index)), reason, unit, limit, actual }
        }
        Fault::Malformed => Fault::Malformed,
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
}

impl<'a> Walk<'a> {
    fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for (place, byte) in self.bytes.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (place * 7);
            if *byte < 0x80 {
                self.bytes = &self.bytes[place + 1..];
                return Ok(value);
            }
        }
        Err(Fault::Malformed)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Fault::Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn delimited(&mut self) -> Result<&'a [u8], Fault> {
        let count = usize::try_from(self.varint()?).map_err(|_| Fault::Malformed)?;
        self.take(count)
    }

    fn skip(&mut self, wire: u8) -> Result<(), Fault> {
        match wire {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            LEN => self.delimited().map(drop),
            FIXED32 => self.take(4).map(drop),
            // Groups are of protobuf 2: no request has any.
            _ => Err(Fault::Malformed),
        }
    }
}
