//! The ledger: a file of its own that says what was charged, line by line, synced before anybody is told.
//!
//! Comes in: entries, numbered from 1, in order. Goes out: the news that everything up to a number is on disk. What
//! must stay true:
//!
//! 1. Nobody is told of a charge before its line is synced.
//! 2. After any end of the process the file opens again with every line that was synced. Only the last line can be
//!    torn; it is dropped, and said. Anything else that is wrong is an error with its place, and nothing is changed.
//! 3. A write or a sync that failed is not tried again: nothing is charged any more until the file is opened anew.
//!
//! One thread writes, one task tells. What arrives while the thread waits for the disk goes out with the next sync, so
//! that a thousand charges at once cost a handful of syncs. Between two syncs lie [`SYNC_EVERY`] or [`LINES_ENOUGH`],
//! whichever comes first: a sync costs the machine as much as ten charges or more, and a payment can wait for some
//! milliseconds. The task stands between the thread and those that wait because it wakes all of them at once, from
//! within the runtime: their answers then leave together, and not each with a wake and a write of its own. A runtime of
//! one thread does that best.

mod read;

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::sync::{Notify, oneshot};

pub(crate) use read::Lines;
pub use read::{Whole, read};

use super::entry::{Entry, LineFault};

/// The first line of a ledger. The number is the version of the format.
pub(crate) const HEADING: &[u8] = b"tillroll gateway ledger 1\n";

/// The time between the beginnings of two syncs, unless enough has gathered before.
const SYNC_EVERY: Duration = Duration::from_millis(4);
/// Lines that are not kept waiting for more.
const LINES_ENOUGH: u64 = 48;

/// Why a ledger cannot be opened, read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// What the system says.
    #[error("{doing} the ledger file={}", file.display())]
    Io {
        /// The ledger's file.
        file: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("another process has the ledger open file={}", file.display())]
    Locked {
        /// The ledger's file.
        file: PathBuf,
    },
    /// The file is not a ledger, or one of another version. It was left alone.
    #[error("the file is no ledger of this version file={} found={found:?}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// How it begins.
        found: String,
    },
    /// A line that is not the last one is not what was written.
    #[error("the ledger is damaged file={} position={position} line={line}: {fault}", file.display())]
    Damaged {
        /// The ledger's file.
        file: PathBuf,
        /// Where the line begins, in bytes from the start of the file.
        position: u64,
        /// Which line, the heading being 1.
        line: u64,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// An earlier write or sync failed, so nothing is written any more.
    #[error("the ledger takes no charges since a write failed file={}: {cause}", file.display())]
    Poisoned {
        /// The ledger's file.
        file: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The gateway stops, or has stopped.
    #[error("the ledger is closed file={}", file.display())]
    Closed {
        /// The ledger's file.
        file: PathBuf,
    },
}

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// Charges in the ledger.
    pub entries: u64,
    /// Bytes of a last line that was torn by a kill, and never answered for. They are gone.
    pub torn_bytes: u64,
}

/// A ledger that is open for charging. Dropping it is like a kill: what was not written yet is lost, and nobody was
/// told of it.
#[derive(Debug)]
pub(crate) struct Ledger {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    queue: Mutex<Queue>,
    /// Something is queued while the writer has nothing to do, or the end has come.
    woken: Condvar,
    /// Enough has gathered, or the end has come, while the writer waits for more.
    hurried: Condvar,
    /// More is on disk, or the end has come.
    news: Notify,
}

/// What waits for the writer.
#[derive(Debug)]
struct Queue {
    /// Lines that were not taken yet. Bounded by the requests that the server takes at a time.
    bytes: Vec<u8>,
    /// The number of the last line that was queued.
    last: u64,
    /// The number of the last line that the writer took.
    taken: u64,
    /// The number of the last line that is on disk.
    synced: u64,
    /// Bytes of the file up to there.
    synced_bytes: u64,
    syncs: u64,
    waiting: Vec<(u64, oneshot::Sender<()>)>,
    /// The writer waits for something to do; otherwise it looks by itself, and need not be woken.
    is_idle: bool,
    end: Option<End>,
    poisoned: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// What is queued is written first.
    Orderly,
    /// At once.
    Kill,
}

impl Ledger {
    /// Opens a ledger, makes it when it is not there, and gives what it holds. Reading it to its end is the only way
    /// to write to it. Must be called within a runtime.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Entry>, Opened), LedgerError> {
        let failed = |doing, source| LedgerError::Io { file: path.to_owned(), doing, source };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(|source| failed("opening", source))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LedgerError::Locked { file: path.to_owned() },
            TryLockError::Error(source) => failed("locking", source),
        })?;
        let Whole { entries, torn_bytes, mut bytes, .. } = read(path)?;
        if torn_bytes > 0 {
            file.set_len(bytes).map_err(|source| failed("dropping the torn end of", source))?;
        }
        if bytes == 0 {
            file.write_all(HEADING).map_err(|source| failed("beginning", source))?;
            bytes = HEADING.len() as u64;
        }
        // Lines of a process that was killed may be in memory alone, and are answered for from now on.
        file.sync_all().map_err(|source| failed("syncing", source))?;
        sync_directory(path).map_err(|source| failed("syncing the directory of", source))?;
        let last = entries.len() as u64;
        let ledger = Self::start(path, file, last, bytes).map_err(|source| failed("starting the writer of", source))?;
        Ok((ledger, entries, Opened { entries: last, torn_bytes }))
    }

    fn start(path: &Path, file: File, last: u64, bytes: u64) -> io::Result<Self> {
        let queue = Queue {
            bytes: Vec::new(),
            last,
            taken: last,
            synced: last,
            synced_bytes: bytes,
            syncs: 0,
            waiting: Vec::new(),
            is_idle: false,
            end: None,
            poisoned: None,
        };
        let (woken, hurried, news) = (Condvar::new(), Condvar::new(), Notify::new());
        let shared = Arc::new(Shared { file: path.to_owned(), queue: Mutex::new(queue), woken, hurried, news });
        tokio::spawn(tell(Arc::clone(&shared)));
        let of_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            write(&of_writer, &file);
            // A process that is being started at this moment has a copy of the file, and would keep it locked.
            let _ = file.unlock();
        })?;
        Ok(Self { shared, writer: Mutex::new(Some(writer)) })
    }

    /// Hands over the next entry. It is on disk when [`Ledger::synced`] says so.
    ///
    /// # Panics
    ///
    /// When its number is not the next one.
    pub(crate) fn append(&self, entry: &Entry) -> Result<(), LedgerError> {
        let mut queue = self.shared.lock();
        self.shared.check(&queue)?;
        assert_eq!(entry.number, queue.last + 1, "entries come in order");
        entry.encode(&mut queue.bytes);
        queue.last = entry.number;
        let (is_idle, is_enough) = (std::mem::take(&mut queue.is_idle), queue.lines() == LINES_ENOUGH);
        drop(queue);
        if is_idle {
            self.shared.woken.notify_one();
        }
        if is_enough {
            self.shared.hurried.notify_one();
        }
        Ok(())
    }

    /// Waits until everything up to this number is on disk.
    ///
    /// **Errors**: when it never will be, as far as this process is concerned.
    pub(crate) async fn synced(&self, number: u64) -> Result<(), LedgerError> {
        let news = {
            let mut queue = self.shared.lock();
            if queue.synced >= number {
                return Ok(());
            }
            self.shared.check(&queue)?;
            let (sender, receiver) = oneshot::channel();
            queue.waiting.push((number, sender));
            receiver
        };
        match news.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.shared.check(&self.shared.lock()).err().unwrap_or_else(|| self.shared.closed())),
        }
    }

    /// The file, and how many bytes of it are on disk.
    pub(crate) fn extent(&self) -> (PathBuf, u64) {
        (self.shared.file.clone(), self.shared.lock().synced_bytes)
    }

    /// Syncs since the start.
    pub(crate) fn syncs(&self) -> u64 {
        self.shared.lock().syncs
    }

    /// Writes what is queued, and ends. Blocks for a sync or two.
    pub(crate) fn close(&self) {
        self.end(End::Orderly);
    }

    /// Ends as a kill would: what is queued is lost. Blocks while a sync is under way.
    pub(crate) fn kill(&self) {
        self.end(End::Kill);
    }

    fn end(&self, end: End) {
        let mut queue = self.shared.lock();
        queue.end = queue.end.or(Some(end));
        drop(queue);
        self.shared.woken.notify_one();
        self.shared.hurried.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A writer that panicked wrote nothing more either.
            let _ = writer.join();
        }
        let mut queue = self.shared.lock();
        queue.tell();
        queue.waiting.clear();
        drop(queue);
        self.shared.news.notify_one();
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Queue {
    /// Lines that the writer has not taken.
    fn lines(&self) -> u64 {
        self.last - self.taken
    }

    /// Wakes those whose lines are on disk.
    fn tell(&mut self) {
        for (_, sender) in self.waiting.extract_if(.., |(number, _)| *number <= self.synced) {
            // Whoever asked may have gone.
            let _ = sender.send(());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, queue: &Queue) -> Result<(), LedgerError> {
        match &queue.poisoned {
            Some(cause) => Err(LedgerError::Poisoned { file: self.file.clone(), cause: cause.clone() }),
            None if queue.end.is_some() => Err(self.closed()),
            None => Ok(()),
        }
    }

    fn closed(&self) -> LedgerError {
        LedgerError::Closed { file: self.file.clone() }
    }
}

/// The writer: takes what is queued, writes and syncs it, tells those that wait.
fn write(shared: &Shared, mut file: &File) {
    let mut bytes = Vec::new();
    let mut began = None;
    while let Some(last) = take(shared, began, &mut bytes) {
        began = Some(Instant::now());
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        let mut queue = shared.lock();
        if let Err(error) = written {
            tracing::error!(file = %shared.file.display(), %error, "the ledger cannot be written");
            queue.poisoned = Some(error.to_string());
            queue.waiting.clear();
            return;
        }
        queue.synced = last;
        queue.synced_bytes += bytes.len() as u64;
        queue.syncs += 1;
        drop(queue);
        shared.news.notify_one();
    }
}

/// The teller: wakes those whose lines are on disk.
async fn tell(shared: Arc<Shared>) {
    loop {
        shared.news.notified().await;
        let mut queue = shared.lock();
        queue.tell();
        if queue.end.is_some() {
            return;
        }
    }
}

/// Waits for lines, and for the next sync to be due. Gives the number of the last line taken; none at the end.
fn take(shared: &Shared, began: Option<Instant>, bytes: &mut Vec<u8>) -> Option<u64> {
    bytes.clear();
    let mut queue = shared.lock();
    while queue.bytes.is_empty() && queue.end.is_none() {
        queue.is_idle = true;
        queue = shared.woken.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
    queue.is_idle = false;
    while queue.end.is_none()
        && queue.lines() < LINES_ENOUGH
        && let Some(wait) = began.and_then(|began| SYNC_EVERY.checked_sub(began.elapsed()))
        && !wait.is_zero()
    {
        queue = shared.hurried.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
    if queue.end == Some(End::Kill) || queue.bytes.is_empty() {
        return None;
    }
    std::mem::swap(&mut queue.bytes, bytes);
    queue.taken = queue.last;
    Some(queue.last)
}

/// A new file is there after a power cut only when its directory is synced.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests;
