//! How a record is written for people: a pattern with `%p`, `%o`, `%t`, `%k`, `%v` and a few more.

use std::{io::Write as _, str::FromStr};

use tillroll_client::Received;

use crate::cmd::{
    read::shown::{Shown, put_json, put_text},
    terminal, time,
};

/// Partition, offset, append time, key, value.
pub(in crate::cmd) const DEFAULT: &str = r"%p %o %t %k %v\n";

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cmd) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    Partition,
    Offset,
    AppendTime,
    EventTime,
    Key,
    Value,
    Id,
    Type,
    Source,
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            let part = match char {
                '\\' => {
                    plain.push(match chars.next() {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some('r') => '\r',
                        Some('\\') => '\\',
                        other => return Err(format!(r"\{} means nothing; \n \t \r \\ do", shown(other))),
                    });
                    continue;
                }
                '%' => match chars.next() {
                    Some('%') => {
                        plain.push('%');
                        continue;
                    }
                    next => part(next)?,
                },
                other => {
                    plain.push(other);
                    continue;
                }
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }
}

fn part(letter: Option<char>) -> Result<Part, String> {
    Ok(match letter {
        Some('p') => Part::Partition,
        Some('o') => Part::Offset,
        Some('t') => Part::AppendTime,
        Some('k') => Part::Key,
        Some('v') => Part::Value,
        Some('i') => Part::Id,
        Some('y') => Part::Type,
        Some('s') => Part::Source,
        Some('e') => Part::EventTime,
        Some('T') => Part::Topic,
        other => return Err(format!("%{} means nothing; %p %o %t %k %v %i %y %s %e %T %% do", shown(other))),
    })
}

fn shown(char: Option<char>) -> String {
    char.map(String::from).unwrap_or_default()
}

impl Pattern {
    /// Writes one record as it is: no byte of it is another one, and what is absent is nothing.
    pub(in crate::cmd) fn write_raw(&self, out: &mut Vec<u8>, received: &Received) {
        let record = &received.record;
        for part in &self.0 {
            match part {
                Part::Key => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Part::Value => out.extend_from_slice(&record.value),
                Part::Id => out.extend_from_slice(record.id.as_bytes()),
                Part::Type => out.extend_from_slice(record.type_.as_bytes()),
                Part::Source => out.extend_from_slice(record.source.as_bytes()),
                other => other.write(out, received),
            }
        }
    }

    /// Writes one record for a person: each part of it is one line that a terminal only shows.
    pub(in crate::cmd) fn write(&self, out: &mut Vec<u8>, received: &Received) {
        self.0.iter().for_each(|part| part.write(out, received));
    }
}

impl Part {
    fn write(&self, out: &mut Vec<u8>, received: &Received) {
        let record = &received.record;
        let text = |out: &mut Vec<u8>, text: &str| {
            let text = if text.is_empty() { "-" } else { text };
            out.extend_from_slice(terminal::line(text).as_bytes());
        };
        let number = |out: &mut Vec<u8>, number: u64| write!(out, "{number}").expect("memory takes what is written");
        match self {
            Self::Text(plain) => out.extend_from_slice(plain.as_bytes()),
            Self::Topic => text(out, &received.topic),
            Self::Partition => number(out, received.partition.into()),
            Self::Offset => number(out, received.offset),
            Self::AppendTime => text(out, &time::show(received.append_time_us)),
            Self::EventTime => match record.event_time_us {
                Some(time_us) => text(out, &time::show(time_us)),
                None => text(out, ""),
            },
            Self::Key => match &record.key {
                None => text(out, ""),
                Some(key) => put_text(out, key),
            },
            Self::Value => match Shown::of(&record.value, &record.content_type) {
                Shown::Json(json) => put_json(out, json),
                Shown::Text(_) | Shown::Bytes(_) => put_text(out, &record.value),
            },
            Self::Id => text(out, &record.id),
            Self::Type => text(out, &record.type_),
            Self::Source => text(out, &record.source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_read_once_and_wrong_ones_are_refused() {
        assert_eq!(
            r"a%p\t%%%v\n".parse(),
            Ok(Pattern(vec![
                Part::Text("a".into()),
                Part::Partition,
                Part::Text("\t%".into()),
                Part::Value,
                Part::Text("\n".into()),
            ]))
        );
        for wrong in ["%", "%x", r"\", r"\q"] {
            assert!(wrong.parse::<Pattern>().is_err_and(|why| why.contains("means nothing")), "{wrong}");
        }
        assert!(DEFAULT.parse::<Pattern>().is_ok());
    }
}
