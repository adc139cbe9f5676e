//! What the engine reports to the operator: states that no caller's answer carries.
//!
//! Stages push typed facts; the server takes them out and logs them. The engine formats nothing on the way in, knows no
//! logger and never waits for the reader. What must stay true: the ring is bounded, and what it drops is counted.
//!
//! A new kind of notice is one variant of [`Notice`] and one arm of [`Notice::told`].

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll, task::Waker};

use parking_lot::Mutex;

use crate::id::{Lane, Lsn, Offset};

/// Notices that wait to be taken; one more is counted and dropped.
const NOTICES_MAX: usize = 256;

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know: something healed, or a start did what it should.
    Info,
    /// Something is short or was lost; the broker goes on.
    Warn,
    /// Requests are refused, or data cannot be read.
    Error,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Free space fell below twice what appends need.
    DiskLow {
        /// Bytes that are free.
        free: u64,
        /// Bytes below which appends are refused.
        needed: u64,
    },
    /// Appends are refused: the disk is full.
    DiskFull {
        /// Bytes that are free.
        free: u64,
        /// Bytes below which appends are refused.
        needed: u64,
    },
    /// There is space again.
    DiskRelieved {
        /// Bytes that are free.
        free: u64,
    },
    /// Appends are refused: no journal file can be reused before a checkpoint.
    JournalFull {
        /// Files in use.
        files: u32,
        /// Files that there may be.
        files_max: u32,
    },
    /// A checkpoint has given journal files back.
    JournalRelieved {
        /// Files in use.
        files: u32,
    },
    /// A write or a sync failed: writes are refused until the broker starts again.
    WritesOff {
        /// What was being done.
        action: &'static str,
        /// On which file.
        file: String,
        /// The system's words.
        cause: String,
    },
    /// A read found damage. Reported once for each file.
    Damaged {
        /// Topic and partition.
        lane: Lane,
        /// First offset that cannot be read.
        from: Offset,
        /// Offset behind the last one that cannot be read.
        to: Offset,
        /// The file.
        file: String,
        /// What was found.
        fault: String,
    },
    /// The system failed to read a file. Reported once for each file.
    ReadFailed {
        /// Topic and partition.
        lane: Lane,
        /// The file.
        file: String,
        /// The system's words.
        cause: String,
    },
    /// A file could not be made, opened or extended for lack of something. It is tried again.
    Lacking {
        /// Which stage.
        stage: &'static str,
        /// The file.
        file: String,
        /// The system's words.
        cause: String,
    },
    /// What was lacking is there again.
    Healed {
        /// Which stage.
        stage: &'static str,
        /// The file.
        file: String,
    },
    /// The start read frames again that no checkpoint stood for.
    Replayed {
        /// How many frames.
        frames: u64,
        /// How long it took.
        duration_us: u64,
    },
    /// The start dropped bytes behind the last whole write batch of the journal.
    Dropped {
        /// How many bytes.
        bytes: u64,
        /// Where a copy of them is.
        copy: Option<String>,
        /// Whether acknowledged records may be among them.
        possible_loss: bool,
    },
    /// The start found damage, or files that do not belong there.
    Finding {
        /// What was found, with the next step.
        text: String,
    },
    /// A stop ended before everything was checkpointed.
    StopGivenUp {
        /// Frames that the next start replays.
        frames: u64,
        /// The last frame that is durable.
        durable: Lsn,
        /// Partitions with records that are in no segment yet.
        partitions: u64,
    },
}

impl Notice {
    /// How much it matters, and what it says.
    pub fn told(&self) -> (Severity, String) {
        use Severity::{Error, Info, Warn};
        match self {
            Self::DiskLow { free, needed } => {
                (Warn, format!("disk space is low: free={free} bytes, appends are refused below {needed}; free some"))
            }
            Self::DiskFull { free, needed } => (
                Error,
                format!("the disk is full: free={free} bytes, appends need {needed}; they are refused until then"),
            ),
            Self::DiskRelieved { free } => (Info, format!("there is disk space again: free={free} bytes")),
            Self::JournalFull { files, files_max } => {
                let text = format!("the journal is full: {files} of {files_max} files; appends wait for a checkpoint");
                (Error, text)
            }
            Self::JournalRelieved { files } => (Info, format!("the journal has room again: {files} files in use")),
            Self::WritesOff { action, file, cause } => {
                let next = "reads go on. Mend the disk, then start the broker again";
                (Error, format!("writes are off: {action} failed on {file}: {cause}; {next}"))
            }
            Self::Damaged { lane, from, to, file, fault } => {
                let range = format!("offsets {from} to {} of {lane}", to.get().saturating_sub(1));
                (Error, format!("{range} cannot be read: {file}: {fault}; put the file back from a copy"))
            }
            Self::ReadFailed { lane, file, cause } => {
                (Error, format!("reading {file} of {lane} failed: {cause}; look at the disk"))
            }
            Self::Lacking { stage, file, cause } => {
                (Error, format!("{stage} cannot go on: {file}: {cause}; nothing is lost, it is tried again"))
            }
            Self::Healed { stage, file } => (Info, format!("{stage} goes on: {file} is no longer held up")),
            Self::Replayed { frames, duration_us } => {
                let tenths = duration_us / 100_000;
                let (seconds, tenth) = (tenths / 10, tenths % 10);
                (Info, format!("{frames} frames of the journal replayed in {seconds}.{tenth} s"))
            }
            Self::Dropped { bytes, copy, possible_loss } => {
                let copy = copy.as_ref().map_or_else(String::new, |file| format!(" (a copy is in {file})"));
                let acked = if *possible_loss {
                    "a kill leaves only what was never acknowledged; after a power cut, acknowledged records may be \
                     among them"
                } else {
                    "they were never acknowledged"
                };
                let text = format!("{bytes} bytes behind the last whole write batch of the journal are dropped{copy}");
                (Warn, format!("{text}: {acked}"))
            }
            Self::Finding { text } => (Warn, text.clone()),
            Self::StopGivenUp { frames, durable, partitions } => (
                Warn,
                format!(
                    "the stop did not wait for the last checkpoint: {frames} frames up to {durable}, {partitions} \
                     partitions; nothing is lost, the next start replays them"
                ),
            ),
        }
    }
}

/// What was taken out of the ring.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Oldest first.
    pub notices: Vec<Notice>,
    /// Notices that found the ring full since the last time.
    pub dropped: u64,
}

/// The ring, shared by all stages and read by one task.
#[derive(Debug, Default)]
pub struct Notices {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ring: VecDeque<Notice>,
    dropped: u64,
    reader: Option<Waker>,
}

impl Notices {
    /// Adds a notice and wakes the reader. A full ring keeps the older ones, which are nearer to the cause.
    pub fn push(&self, notice: Notice) {
        let mut state = self.state.lock();
        if state.ring.len() < NOTICES_MAX {
            state.ring.push_back(notice);
        } else {
            state.dropped += 1;
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Takes what is there, which may be nothing.
    pub fn take(&self) -> Taken {
        let mut state = self.state.lock();
        Taken { notices: std::mem::take(&mut state.ring).into(), dropped: std::mem::take(&mut state.dropped) }
    }

    /// Waits until there is something and takes it. One reader at a time: a second one replaces the first.
    pub async fn next(&self) -> Taken {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if state.ring.is_empty() && state.dropped == 0 {
                state.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            drop(state);
            Poll::Ready(self.take())
        })
        .await
    }
}

/// A lack that one stage has met: reported when it begins and when it is over, not at every retry.
#[derive(Debug)]
pub struct Lack {
    notices: Arc<Notices>,
    stage: &'static str,
    file: Option<String>,
}

impl Lack {
    /// Nothing is lacking yet.
    pub fn new(notices: Arc<Notices>, stage: &'static str) -> Self {
        Self { notices, stage, file: None }
    }

    /// Something is lacking for `file`.
    pub fn begins(&mut self, file: &str, cause: &std::io::Error) {
        if self.file.is_none() {
            self.file = Some(file.to_owned());
            let (stage, file, cause) = (self.stage, file.to_owned(), cause.to_string());
            self.notices.push(Notice::Lacking { stage, file, cause });
        }
    }

    /// A call that takes something went through.
    pub fn ends(&mut self) {
        if let Some(file) = self.file.take() {
            self.notices.push(Notice::Healed { stage: self.stage, file });
        }
    }

    /// Whether something is lacking.
    pub fn is_on(&self) -> bool {
        self.file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future as _,
        pin::pin,
        sync::atomic::{AtomicU32, Ordering},
        task::{Context, Wake},
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_full_ring_keeps_the_oldest_and_counts_the_rest() {
        let notices = Notices::default();
        for free in 0..NOTICES_MAX as u64 + 7 {
            notices.push(Notice::DiskRelieved { free });
        }
        let taken = notices.take();
        assert_eq!((taken.notices.len(), taken.dropped), (NOTICES_MAX, 7));
        assert_eq!(taken.notices[0], Notice::DiskRelieved { free: 0 });
        assert_eq!(notices.take(), Taken::default(), "each is taken once");
    }

    #[test]
    fn a_push_wakes_the_reader() {
        let (notices, woken) = (Notices::default(), Arc::new(Woken::default()));
        let waker = Waker::from(woken.clone());
        let mut next = pin!(notices.next());
        assert_eq!(next.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        notices.push(Notice::DiskRelieved { free: 3 });
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        let expected = Taken { notices: vec![Notice::DiskRelieved { free: 3 }], dropped: 0 };
        assert_eq!(next.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(expected));
    }

    #[test]
    fn a_lack_is_reported_when_it_begins_and_when_it_ends() {
        let notices = Arc::new(Notices::default());
        let mut lack = Lack::new(notices.clone(), "flush");
        let cause = std::io::Error::from_raw_os_error(28);
        lack.ends();
        (0..3).for_each(|_| lack.begins("a", &cause));
        (0..3).for_each(|_| lack.ends());
        let kinds: Vec<_> = notices.take().notices.iter().map(|notice| notice.told().0).collect();
        assert_eq!(kinds, [Severity::Error, Severity::Info]);
    }
}
