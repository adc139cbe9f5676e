//! Lines, JSON lines and CSV rows become records, each with its id: the source, `#`, and the number of its data line.

use std::{
    io::{self, BufRead, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use jiff::tz::TimeZone;
use serde_json::Value;
use tillroll_client::Record;

use crate::cmd::{append::Format, fail::Failure, time};

/// The longest line that is taken in; a record may be at most 3 MiB.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// What every record of a file has in common.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) source: String,
    pub(super) key_column: Option<String>,
    pub(super) time_column: Option<String>,
    pub(super) zone: TimeZone,
    pub(super) type_: String,
}

/// The records of an input, in its order.
pub(super) struct Rows {
    plan: Plan,
    /// Data lines so far.
    line: u64,
    /// Records so far: blank lines are none.
    records: u64,
    /// What was read ahead; counted as read.
    ahead: Option<Record>,
    form: Form,
}

enum Form {
    Lines(Lines),
    Jsonl(Lines),
    Csv(Box<Csv>),
}

impl Rows {
    /// Reads the header, where there is one.
    pub(super) fn new(input: Box<dyn BufRead + Send>, format: Format, plan: Plan) -> Result<Self, Failure> {
        let lines = |input| Lines { input, buffer: Vec::new() };
        let form = match format {
            Format::Csv => Form::Csv(Box::new(Csv::new(input, &plan)?)),
            Format::Jsonl => Form::Jsonl(lines(input)),
            Format::Lines if plan.key_column.is_some() || plan.time_column.is_some() => {
                return Err(Failure::usage(format!("lines of {} have no columns", plan.source))
                    .hint("say what the file holds: --format csv or --format jsonl"));
            }
            Format::Lines => Form::Lines(lines(input)),
        };
        Ok(Self { plan, line: 0, records: 0, ahead: None, form })
    }

    /// Looks whether the first record has the columns that are named. Without any, nothing is read.
    pub(super) fn check_columns(&mut self) -> Result<(), Failure> {
        if self.plan.key_column.is_some() || self.plan.time_column.is_some() {
            self.ahead = self.next()?;
        }
        Ok(())
    }

    /// How many records there were so far.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// The number of the data line that was read last.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The line of the file at which the last record begins, as an editor counts: the header is line 1.
    pub(super) fn file_line(&self) -> u64 {
        match &self.form {
            Form::Csv(csv) => csv.line(),
            Form::Lines(_) | Form::Jsonl(_) => self.line,
        }
    }

    /// What the lines are called after.
    pub(super) fn source(&self) -> &str {
        &self.plan.source
    }

    /// The next record; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Failure> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        let read = match &mut self.form {
            Form::Lines(lines) => lines.next().map(|line| line.map(|line| Record::new(line.to_vec()))),
            Form::Jsonl(lines) => lines.json(&self.plan, &mut self.line),
            Form::Csv(csv) => csv.next(&self.plan),
        };
        let at = |wrong: String| {
            let line = match &self.form {
                Form::Csv(csv) => csv.line(),
                Form::Lines(_) | Form::Jsonl(_) => self.line + 1,
            };
            Failure::plain(format!("{} line {line}: {wrong}", self.plan.source))
        };
        let Some(mut record) = read.map_err(at)? else { return Ok(None) };
        self.line += 1;
        self.records += 1;
        record.id = format!("{}#{}", self.plan.source, self.line);
        record.source.clone_from(&self.plan.source);
        record.type_.clone_from(&self.plan.type_);
        Ok(Some(record))
    }
}

struct Lines {
    input: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line without its end.
    fn next(&mut self) -> Result<Option<&[u8]>, String> {
        self.buffer.clear();
        let mut bounded = (&mut self.input).take(LINE_BYTES_MAX);
        bounded.read_until(b'\n', &mut self.buffer).map_err(|error| error.to_string())?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if self.buffer.len() as u64 == LINE_BYTES_MAX {
            return Err(format!("it is longer than {LINE_BYTES_MAX} bytes"));
        }
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// The next JSON value; blank lines are counted and left out.
    fn json(&mut self, plan: &Plan, line_count: &mut u64) -> Result<Option<Record>, String> {
        loop {
            let Some(line) = self.next()? else { return Ok(None) };
            if line.trim_ascii().is_empty() {
                *line_count += 1;
                continue;
            }
            let mut record = Record::new(line.to_vec());
            if plan.key_column.is_none() && plan.time_column.is_none() {
                serde_json::from_slice::<serde::de::IgnoredAny>(line).map_err(|error| format!("no JSON: {error}"))?;
                return Ok(Some(record));
            }
            let value: Value = serde_json::from_slice(line).map_err(|error| format!("no JSON: {error}"))?;
            if let Some(name) = &plan.key_column {
                record.key = field(&value, name, "--key-column")?.map(Bytes::from);
            }
            if let Some(name) = &plan.time_column
                && let Some(text) = field(&value, name, "--time-column")?
            {
                record.event_time_us = Some(time::parse(&text, &plan.zone)?);
            }
            return Ok(Some(record));
        }
    }
}

/// A field of a JSON object as text; an empty one and null are none. One that is not there may be a mistyped name, and
/// records without their keys would lose their order.
fn field(value: &Value, name: &str, flag: &str) -> Result<Option<String>, String> {
    let text = match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
        None => return Err(format!("it has no field `{name}`, which {flag} names; null says that there is none")),
    };
    Ok((!text.is_empty()).then_some(text))
}

struct Csv {
    rows: csv::Reader<Watched>,
    watch: Arc<Watch>,
    row: csv::StringRecord,
    /// The line at which the parser went on for this row: blank lines may come first.
    from_line: u64,
    /// All of the row was read.
    is_whole: bool,
    /// For each column, what stands before its value: `{"Name":` or `,"Name":`.
    before: Vec<Vec<u8>>,
    key: Option<usize>,
    time: Option<usize>,
}

impl Csv {
    fn new(input: Box<dyn BufRead + Send>, plan: &Plan) -> Result<Self, Failure> {
        let watch = Arc::new(Watch::default());
        let watched = Watched::new(input, watch.clone());
        let mut rows = csv::ReaderBuilder::new().buffer_capacity(64 << 10).from_reader(watched);
        let wrong = |error: csv::Error| Failure::plain(format!("{} header: {}", plan.source, fault(&error)));
        let header = rows.headers().map_err(wrong)?.clone();
        // The open cell is the last one, and has the whole file.
        if watch.has_open_quote() && header.iter().next_back().is_some_and(|cell| cell.contains('\n')) {
            let before = header.iter().rev().skip(1).map(|cell| cell.matches('\n').count()).sum::<usize>();
            let wrong = format!("{} header: a quote that begins in line {} is never closed", plan.source, before + 1);
            return Err(Failure::plain(wrong).hint("close it, or double a quote that is part of a name"));
        }
        if let Some(name) = header.iter().enumerate().find_map(|(at, name)| header.iter().take(at).find(|n| *n == name))
        {
            return Err(Failure::plain(format!("{} header: two columns are called {name:?}", plan.source)));
        }
        let find = |name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => header.iter().position(|column| column == name).map(Some).ok_or_else(|| {
                let columns: Vec<&str> = header.iter().collect();
                Failure::usage(format!("{} has no column {name:?}", plan.source))
                    .hint(format!("its columns are {}", columns.join(", ")))
            }),
        };
        let before = header.iter().enumerate().map(|(at, name)| {
            let mut text = vec![if at == 0 { b'{' } else { b',' }];
            put_string(&mut text, name);
            text.push(b':');
            text
        });
        Ok(Self {
            before: before.collect(),
            key: find(&plan.key_column)?,
            time: find(&plan.time_column)?,
            rows,
            watch,
            row: csv::StringRecord::new(),
            from_line: 1,
            is_whole: false,
        })
    }

    /// The line at which the row begins that was read last, as an editor counts: the header is line 1.
    ///
    /// The parser counts what it has consumed, which is a line more when that ends with a line feed. A carriage return
    /// ends a row before the line feed behind it is consumed.
    fn line(&self) -> u64 {
        if !self.is_whole {
            return self.from_line;
        }
        let within = self.row.iter().map(|cell| cell.matches('\n').count() as u64).sum::<u64>();
        let position = self.rows.position();
        let is_behind = !self.watch.has_open_quote() && self.rows.get_ref().byte_before(position.byte()) == Some(b'\n');
        position.line().saturating_sub(within + u64::from(is_behind))
    }

    fn next(&mut self, plan: &Plan) -> Result<Option<Record>, String> {
        self.watch.row_bytes.store(0, Ordering::Relaxed);
        self.from_line = self.rows.position().line();
        let read = self.rows.read_record(&mut self.row);
        let is_unequal = |error: &csv::Error| matches!(error.kind(), csv::ErrorKind::UnequalLengths { .. });
        self.is_whole = read.as_ref().map_or_else(is_unequal, |_| true);
        if !read.map_err(|error| fault(&error))? {
            return Ok(None);
        }
        // Such a row is well formed to the parser: its last field has swallowed the rest of the file.
        if self.watch.has_open_quote() && self.row.iter().next_back().is_some_and(|cell| cell.contains('\n')) {
            return Err("a quote that begins in this row is never closed".to_owned());
        }
        let names: usize = self.before.iter().map(Vec::len).sum();
        let mut value = Vec::with_capacity(names + self.row.as_slice().len() + 2 * self.before.len() + 8);
        for (before, cell) in self.before.iter().zip(&self.row) {
            value.extend_from_slice(before);
            put_string(&mut value, cell);
        }
        value.push(b'}');
        let cell = |column: Option<usize>| column.and_then(|at| self.row.get(at)).filter(|cell| !cell.is_empty());
        let mut record = Record::new(value);
        record.key = cell(self.key).map(|key| Bytes::copy_from_slice(key.as_bytes()));
        record.event_time_us = cell(self.time).map(|text| time::parse(text, &plan.zone)).transpose()?;
        Ok(Some(record))
    }
}

/// What was seen of an input besides its rows.
#[derive(Default)]
struct Watch {
    row_bytes: AtomicU64,
    quotes: AtomicU64,
    has_ended: AtomicBool,
}

impl Watch {
    fn has_open_quote(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed) && !self.quotes.load(Ordering::Relaxed).is_multiple_of(2)
    }
}

struct Watched {
    input: Box<dyn BufRead + Send>,
    watch: Arc<Watch>,
    /// What was read last, and the byte before it.
    last: Vec<u8>,
    before: Option<u8>,
    /// Bytes so far.
    bytes: u64,
}

impl Watched {
    fn new(input: Box<dyn BufRead + Send>, watch: Arc<Watch>) -> Self {
        Self { input, watch, last: Vec::new(), before: None, bytes: 0 }
    }

    /// The byte before a position in what was read last, which is where the parser is.
    fn byte_before(&self, position: u64) -> Option<u8> {
        let first = self.bytes - self.last.len() as u64;
        match position.checked_sub(first)?.checked_sub(1) {
            Some(index) => self.last.get(usize::try_from(index).ok()?).copied(),
            None => self.before,
        }
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        if count > 0 {
            self.before = self.last.last().copied();
            self.last.clear();
            self.last.extend_from_slice(&buffer[..count]);
            self.bytes += count as u64;
        }
        let quotes = buffer[..count].iter().fold(0, |quotes, &byte| quotes + u64::from(byte == b'"'));
        self.watch.quotes.fetch_add(quotes, Ordering::Relaxed);
        self.watch.has_ended.store(count == 0, Ordering::Relaxed);
        let row_bytes = self.watch.row_bytes.fetch_add(count as u64, Ordering::Relaxed);
        if row_bytes > LINE_BYTES_MAX {
            let wrong = format!("it is longer than {LINE_BYTES_MAX} bytes; is a quote left open?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, wrong));
        }
        Ok(count)
    }
}

/// What is wrong with a row, without the position that the caller knows better.
fn fault(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("it has {len} fields, the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

/// A text as JSON writes it.
fn put_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("a text can be written to memory");
}

#[cfg(test)]
mod tests;
