//! Sends a whole input, and says at every end how much of it is on disk and how to go on.

use std::{fmt::Write as _, path::Path, time::Duration};

use serde_json::json;
use tillroll_client::{Error, ErrorKind, Producer, Record};
use tokio::sync::mpsc;

use crate::cmd::{
    append::{
        Append,
        compare::{Compare, Window},
        input::Input,
        past::{self, Past},
        progress::{Progress, TICK},
        rows::{Plan, Rows},
    },
    fail::{Code, Failure},
    interrupt,
    out::{Format, Out, count, counted, per_second},
};

/// Records that the reading thread hands over at once.
const CHUNK_RECORDS: usize = 512;
/// Chunks that wait to be sent.
const CHUNKS_MAX: usize = 8;
/// How long Ctrl-C waits for what is unanswered; a second one does not wait.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// What the reading thread hands over.
enum Part {
    /// Records to append, each with its line of the file.
    New(Vec<(u64, Record)>),
    /// Records that were appended before.
    Before(Window),
}

type Chunk = Result<Part, Failure>;

/// How sending ended.
enum End {
    /// Everything is acked.
    Complete,
    /// Something went wrong.
    Failed(Failure),
    /// A signal, with its code; `settled` when everything that was sent is answered.
    Interrupted { settled: bool, code: Code },
}

/// Runs `tillroll append TOPIC FILE`.
pub(super) async fn run(append: &Append, file: &Path, out: Out) -> Result<(), Failure> {
    let mut input = Input::open(file)?;
    if input.terminal {
        out.say("one record a line; end with Ctrl-D");
    }
    // A producer is known for ever: what is mistyped is told before there is one.
    let rows = begin(append, &mut input)?;
    let client = append.connection.connect().await?;
    let mut builder = client.producer(&append.topic);
    let mut past = Past { records: append.skip, last: None, is_named: append.producer.is_some() };
    if let Some(name) = &append.producer {
        past.last = past::last(&client, append, name).await?;
        past.is_of(name, &input.source)?;
        builder = builder.name(name);
    }
    if let Some(bytes) = append.batch_bytes {
        builder = builder.batch_bytes(bytes);
    }
    if let Some(bytes) = append.in_flight_bytes {
        builder = builder.in_flight_bytes(bytes);
    }
    let producer = builder.build().await?;
    if append.producer.is_some() {
        past.records = producer.accepted_records();
    }
    let skip = past.records;
    announce(append, &input.source, skip, out);

    let mut progress = Progress::new(out, &input);
    let source = input.source.clone();
    let compare = Compare { client: &client, topic: &append.topic, source: &source, out };
    let mut chunks = read(rows, input.live, past)?;
    let end = {
        let ticks = async {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                progress.show(producer.statistics().accepted_records);
                progress.trouble(producer.trouble().as_ref());
            }
        };
        tokio::select! {
            sent = send(&producer, &mut chunks, &compare) => sent.map_or_else(End::Failed, |()| End::Complete),
            () = ticks => unreachable!("it ticks for ever"),
            code = interrupt() => interrupted(&producer, code).await,
        }
    };
    progress.end();
    let load = Load { append, source, skip, seconds: progress.seconds(), out };
    load.report(&producer, end)
}

/// Before the first record: where it goes on.
fn announce(append: &Append, source: &str, skip: u64, out: Out) {
    if skip > 0 {
        let who = append.producer.as_ref().map_or_else(|| "left out".to_owned(), |name| format!("{name} has acked"));
        out.say(format!("{who} {} of {source}: going on behind them", counted(skip, "record")));
    }
}

/// The records of an input, whose columns are there. Waits for the first one when columns are named.
fn begin(append: &Append, input: &mut Input) -> Result<Rows, Failure> {
    let plan = Plan {
        source: input.source.clone(),
        key_column: append.key_column.clone(),
        time_column: append.time_column.clone(),
        zone: append.time_zone.clone(),
        type_: append.type_.clone().unwrap_or_default(),
    };
    let bytes = std::mem::replace(&mut input.bytes, Box::new(std::io::empty()));
    let mut rows = Rows::new(bytes, append.format.unwrap_or(input.format), plan)?;
    rows.check_columns()?;
    Ok(rows)
}

/// Starts the thread that reads and parses. What comes `live` is handed over at once.
fn read(mut rows: Rows, live: bool, past: Past) -> Result<mpsc::Receiver<Chunk>, Failure> {
    let chunk_records = if live { 1 } else { CHUNK_RECORDS };
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let work = move || {
        let mut before = Window::default();
        loop {
            let (chunk, last) = next_chunk(&mut rows, chunk_records, &past, &mut before);
            for part in chunk {
                if sender.blocking_send(part).is_err() {
                    return;
                }
            }
            if last {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("tillroll-input".into()).spawn(work);
    thread.map(|_| receiver).map_err(|error| Failure::io("starting a thread", &error))
}

/// The next records, and whether they are the last. What was read before a bad line is sent all the same. Those of
/// before are gathered in their window, which comes alone when it is full or there are no more of them.
fn next_chunk(rows: &mut Rows, chunk_records: usize, past: &Past, before: &mut Window) -> (Vec<Chunk>, bool) {
    let mut records = Vec::with_capacity(chunk_records);
    while records.len() < chunk_records {
        match rows.next() {
            Ok(Some(record)) if rows.records() <= past.records => {
                let is_last = rows.records() == past.records;
                let ends = if is_last { past.ends_with(&record, rows.file_line()) } else { Ok(()) };
                if let Err(failure) = ends {
                    return (vec![Err(failure)], true);
                }
                if past.is_named {
                    let full = before.push(rows.line(), &record);
                    let rest = is_last.then(|| std::mem::take(before));
                    let windows: Vec<Chunk> = full.into_iter().chain(rest).map(|part| Ok(Part::Before(part))).collect();
                    if !windows.is_empty() {
                        return (windows, false);
                    }
                }
            }
            Ok(Some(record)) => records.push((rows.file_line(), record)),
            Ok(None) if rows.records() < past.records => {
                let wrong = format!(
                    "{} has {}, fewer than the {} that are left out",
                    rows.source(),
                    counted(rows.records(), "record"),
                    count(past.records)
                );
                return (vec![Err(Failure::new(Code::Conflict, wrong).hint("is it the same file as before?"))], true);
            }
            Ok(None) => return (vec![Ok(Part::New(records))], true),
            Err(failure) => return (vec![Ok(Part::New(records)), Err(failure)], true),
        }
    }
    (vec![Ok(Part::New(records))], false)
}

async fn send(producer: &Producer, chunks: &mut mpsc::Receiver<Chunk>, compare: &Compare<'_>) -> Result<(), Failure> {
    while let Some(chunk) = chunks.recv().await {
        let records = match chunk {
            Ok(Part::New(records)) => records,
            Ok(Part::Before(window)) => {
                compare.with(window).await?;
                continue;
            }
            Err(failure) => {
                producer.close().await?;
                return Err(failure);
            }
        };
        for (line, record) in records {
            if let Err(error) = producer.send(record).await {
                // What was sent before is answered first: otherwise it could land behind what is said to go on from.
                let failure = of_record(compare.source, line, error);
                producer.close().await?;
                return Err(failure);
            }
        }
        if producer.statistics().failed_appends > 0 {
            break;
        }
    }
    Ok(producer.close().await?)
}

/// A record that cannot be appended is named by its line.
fn of_record(source: &str, line: u64, error: Error) -> Failure {
    match error.kind() {
        ErrorKind::InvalidInput => {
            let failure = Failure::new(Code::Refused, format!("{source} line {line}: {}", error.message()));
            failure.hint(
                "mend the line or take it out; larger records go to a topic that was made with --max-record-bytes",
            )
        }
        _ => error.into(),
    }
}

async fn interrupted(producer: &Producer, code: Code) -> End {
    let settled = tokio::select! {
        closed = producer.close() => closed.is_ok(),
        _ = interrupt() => false,
        () = tokio::time::sleep(LAST_ANSWERS) => false,
    };
    End::Interrupted { settled, code }
}

/// What is told at the end.
struct Load<'a> {
    append: &'a Append,
    source: String,
    skip: u64,
    seconds: f64,
    out: Out,
}

impl Load<'_> {
    fn report(&self, producer: &Producer, end: End) -> Result<(), Failure> {
        let statistics = producer.statistics();
        let acked = statistics.accepted_records;
        let rate = per_second(acked, self.seconds);
        let (topic, partitions) = (&self.append.topic, counted(producer.partitions().into(), "partition"));
        let at_least = if matches!(end, End::Interrupted { settled: false, .. }) { "at least " } else { "" };
        let mut said = format!("{at_least}{} acked in {topic} ({partitions})", counted(acked, "record"));
        let _ = write!(said, ", {:.1} s, {}/s", self.seconds, count(rate));
        if statistics.broken_streams > 0 {
            let _ = write!(said, ", connected again {}", counted(statistics.broken_streams, "time"));
        }
        self.out.say(said);
        if self.out.format != Format::Table {
            let object = json!({
                "topic": topic,
                "source": self.source,
                "records_acked": acked,
                "records_skipped": self.skip,
                "complete": matches!(end, End::Complete),
                "seconds": self.seconds,
                "records_per_s": rate,
                "reconnects": statistics.broken_streams,
                "duplicate_appends": statistics.duplicate_appends,
            });
            self.out.one("", &object)?;
        }
        match end {
            End::Complete => Ok(()),
            // What differs from the log differs from it the next time as well.
            End::Failed(failure) if failure.code() == Code::Conflict => Err(failure),
            End::Failed(failure) => {
                self.out.say(self.resume(acked));
                Err(failure)
            }
            End::Interrupted { code, .. } => {
                self.out.say(self.resume(acked));
                Err(Failure::silent(code))
            }
        }
    }

    /// How to go on.
    fn resume(&self, acked: u64) -> String {
        let command = std::env::args().collect::<Vec<_>>();
        if self.source == "stdin" {
            return "what was acked stays; the rest of the input is not taken in".to_owned();
        }
        if self.append.producer.is_some() {
            return format!("to go on behind them, run it again: {}", quoted(&command));
        }
        let mut kept = Vec::new();
        let mut words = command.into_iter();
        while let Some(word) = words.next() {
            if word == "--skip" {
                words.next();
            } else if !word.starts_with("--skip=") {
                kept.push(word);
            }
        }
        format!("to go on behind them: {} --skip {}", quoted(&kept), self.skip + acked)
    }
}

/// A command line that a shell reads as these words.
fn quoted(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let words = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_copied() {
        let words = ["tillroll", "append", "orders", "a b.csv", "it's", ""].map(str::to_owned);
        assert_eq!(quoted(&words), r"tillroll append orders 'a b.csv' 'it'\''s' ''");
    }
}
