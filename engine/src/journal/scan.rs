//! Reading the journal back: only recovery does it, and it believes nothing but the disk.
//!
//! [`scan`] walks the chain of groups from the checkpoint's place to its end and looks ahead, in every file, for what
//! later frames say was durable; it applies nothing. [`Replay`] reads the same groups again, as the rest of the engine
//! gets them from the group write.

use std::{collections::BTreeMap, io, sync::Arc};

use crate::{
    disk::{
        self, Disk, DiskFile, Mode,
        aligned::{AlignedBuf, AlignedPool},
    },
    header::{FILE_HEADER_BYTES, FileHeader, FileKind, HeaderFault},
    id::{Incarnation, Lsn},
    journal::{
        Frame, Group, Tip,
        frame::{FRAME_HEADER_BYTES, FrameFault, FrameHeader, flag},
        op::{self, OpFault},
        pool::{JOURNAL_DIR, Slot, Used},
    },
    limits::ALIGN,
};

/// A dropped tail is looked at, and copied, up to this many bytes.
pub const DROPPED_BYTES_MAX: usize = 16 << 20;

/// What the journal holds behind a checkpoint.
#[derive(Debug)]
pub struct Found {
    /// The last frame of the last whole group on the chain: L.
    pub tip: Tip,
    /// The greatest `durable_lsn` in any valid frame of any file: a lower bound of what was durable.
    pub lookahead: Lsn,
    /// The newest run that any file header or frame tells of.
    pub newest_incarnation: Incarnation,
    /// Files with frames behind the checkpoint, in order; the tip is in the last one.
    pub chain: Vec<Used>,
    /// Files that were in use before and hold nothing that is needed.
    pub free: Vec<Slot>,
    /// Files of unknown contents.
    pub unfilled: Vec<Slot>,
    /// The number that the next file gets.
    pub next_file_no: u64,
    /// What stands behind the tip and is not zero.
    pub dropped: Option<Dropped>,
    /// Frames above the tip in files whose header is not one: together at most some [`DROPPED_BYTES_MAX`].
    pub strays: Vec<Dropped>,
}

/// Bytes behind the last whole group.
#[derive(Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Where.
    pub slot: Slot,
    /// Byte position in the file.
    pub at: u64,
    /// What stands there, up to the first empty block and at most [`DROPPED_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// Why the journal could not be read. None of these drops anything.
#[derive(Debug, thiserror::Error)]
pub enum ScanFault {
    /// The system failed to read or to sync what was read.
    #[error("{action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A file or frame that only a newer program understands.
    #[error("{file} is of a newer format: {fault}")]
    Newer {
        /// The file.
        file: String,
        /// What was found.
        fault: String,
    },
    /// A whole frame whose operations cannot be taken apart.
    #[error("{file} frame lsn={lsn}: {fault}")]
    Body {
        /// The file.
        file: String,
        /// The frame.
        lsn: Lsn,
        /// What was found.
        fault: OpFault,
    },
}

/// Where to look, and what to hold frames against.
pub struct Source<'a> {
    /// The disk.
    pub disk: &'a dyn Disk,
    /// See [`crate::journal::Identity::seed`].
    pub seed: u32,
    /// Bytes of one journal file.
    pub file_bytes: u64,
}

/// A file's slot and its valid header.
struct Seen {
    slot: Slot,
    header: FileHeader,
}

/// Why a walk over groups ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// A zero header: nothing was written here since the file was filled.
    Zero,
    /// Something else that is not the next group.
    Torn,
    /// A frame of a newer version.
    Newer(FrameFault),
}

/// A whole group in a file's bytes.
struct WholeGroup {
    headers: Vec<(FrameHeader, std::ops::Range<usize>)>,
    end: usize,
    tip: Tip,
}

impl Source<'_> {
    fn io(action: &'static str, slot: Slot) -> impl FnOnce(io::Error) -> ScanFault {
        move |source| ScanFault::Io { action, file: slot.path(), source }
    }

    fn open(&self, slot: Slot) -> Result<Arc<dyn DiskFile>, ScanFault> {
        let opened = if cfg!(bug = "recovery_unsynced") {
            self.disk.open(&slot.path(), Mode::Write, true)
        } else {
            disk::open_cold(self.disk, &slot.path(), Mode::Write, true)
        };
        opened.map_err(Self::io("opening", slot))
    }

    /// Reads a whole file; what is missing at its end reads as zeros.
    fn load(&self, slot: Slot, buffer: &mut AlignedBuf) -> Result<(), ScanFault> {
        let file = self.open(slot)?;
        buffer.clear();
        buffer.fill_to(usize::try_from(self.file_bytes).expect("a journal file fits into memory"));
        let count = disk::read_full_at(&*file, buffer.as_mut_slice(), 0).map_err(Self::io("reading", slot))?;
        buffer.as_mut_slice()[count..].fill(0);
        Ok(())
    }

    /// The header of a file; none when it is not one of ours.
    fn header(&self, slot: Slot) -> Result<Option<FileHeader>, ScanFault> {
        let file = self.open(slot)?;
        let mut bytes = AlignedBuf::with_capacity(FILE_HEADER_BYTES);
        bytes.fill_to(FILE_HEADER_BYTES);
        let count = disk::read_full_at(&*file, bytes.as_mut_slice(), 0).map_err(Self::io("reading", slot))?;
        let whole = file.bytes().map_err(Self::io("measuring", slot))? >= self.file_bytes;
        match FileHeader::decode_kind(&bytes.as_slice()[..count], FileKind::Journal) {
            Ok(header) if whole && crc32fast::hash(&header.cluster.0) == self.seed => Ok(Some(header)),
            Err(fault @ (HeaderFault::NewerVersion { .. } | HeaderFault::IncompatibleFlags { .. })) => {
                Err(ScanFault::Newer { file: slot.path(), fault: fault.to_string() })
            }
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// The group at `tip.at`, when it is the whole next one.
    fn group(&self, file: &[u8], tip: Tip) -> Result<WholeGroup, End> {
        let mut at = usize::try_from(tip.at).expect("a journal file fits into memory");
        let (mut tip, mut headers) = (tip, Vec::new());
        loop {
            let header = match FrameHeader::decode(file.get(at..).unwrap_or_default(), self.seed) {
                Ok(header) => header,
                Err(FrameFault::Zero) if headers.is_empty() => return Err(End::Zero),
                Err(fault @ FrameFault::Newer { .. }) => return Err(End::Newer(fault)),
                Err(_) => return Err(End::Torn),
            };
            let continues = header.lsn == tip.lsn.next()
                && header.prev_crc == tip.crc
                && header.incarnation >= tip.incarnation
                && header.has(flag::FIRST) == headers.is_empty();
            let continues = continues || cfg!(bug = "stale_frame");
            let body = at + FRAME_HEADER_BYTES..at + FRAME_HEADER_BYTES + header.body_len as usize;
            let end = at + header.frame_len as usize;
            if !continues || end > file.len() || crc32fast::hash(&file[body.clone()]) != header.body_crc {
                return Err(End::Torn);
            }
            let is_last = header.has(flag::LAST);
            tip = Tip {
                lsn: header.lsn,
                crc: header.header_crc,
                time_us: header.time_us,
                position: header.position,
                incarnation: header.incarnation,
                file_no: tip.file_no,
                at: end as u64,
            };
            if cfg!(bug = "padding_is_end") {
                tip.at = body.end as u64;
            }
            headers.push((header, body));
            if is_last {
                let aligned = end.is_multiple_of(ALIGN);
                return if aligned { Ok(WholeGroup { headers, end, tip }) } else { Err(End::Torn) };
            }
            at = end;
        }
    }
}

/// The frame that a header and a body are.
fn frame(header: &FrameHeader, body: &bytes::Bytes) -> Result<Frame, OpFault> {
    let ops = op::decode(body, header.op_count)?;
    Ok(Frame { lsn: header.lsn, time_us: header.time_us, position: header.position, ops })
}

/// Walks the chain from `start`, which the tables name, to its end. Changes nothing.
///
/// # Errors
///
/// [`ScanFault`].
///
/// # Panics
///
/// When a journal file does not fit into memory: on a 64-bit machine all do.
pub fn scan(source: &Source<'_>, start: Tip) -> Result<Found, ScanFault> {
    let slots = slots(source.disk)?;
    let (mut seen, mut unfilled) = (Vec::new(), Vec::new());
    for slot in slots {
        match source.header(slot)? {
            Some(header) => seen.push(Seen { slot, header }),
            None => unfilled.push(slot),
        }
    }
    let mut walk = Walk { source, tip: start, told: Told::default(), chain: Vec::new(), dropped: None };
    let mut buffer = AlignedBuf::with_capacity(usize::try_from(source.file_bytes).expect("fits into memory"));
    let mut current = seen.iter().find(|file| file.header.number == start.file_no).filter(|_| start.lsn > Lsn(0));
    if current.is_none() {
        current = walk.link(&seen);
    }
    while let Some(file) = current {
        source.load(file.slot, &mut buffer)?;
        walk.file(file, buffer.as_slice())?;
        current = walk.link(&seen);
    }
    let Walk { mut tip, mut told, chain, dropped, .. } = walk;
    let mut free = Vec::new();
    for file in seen.iter().filter(|file| chain.iter().all(|used| used.slot != file.slot)) {
        source.load(file.slot, &mut buffer)?;
        told.look(source, buffer.as_slice());
        free.push(file.slot);
    }
    let mut strays = Vec::new();
    for &slot in &unfilled {
        source.load(slot, &mut buffer)?;
        told.look(source, buffer.as_slice());
        strays_in(source, slot, buffer.as_slice(), tip.lsn, &mut strays);
    }
    if chain.is_empty() {
        tip.at = 0;
    }
    let next_file_no = seen.iter().map(|file| file.header.number).chain([tip.file_no]).max().unwrap_or(0) + 1;
    let headers = seen.iter().map(|file| file.header.incarnation).max().unwrap_or_default();
    let (lookahead, newest_incarnation) = (told.durable, told.incarnation.max(headers));
    Ok(Found { tip, lookahead, newest_incarnation, chain, free, unfilled, next_file_no, dropped, strays })
}

struct Walk<'a> {
    source: &'a Source<'a>,
    tip: Tip,
    told: Told,
    chain: Vec<Used>,
    dropped: Option<Dropped>,
}

impl Walk<'_> {
    /// The file that continues the tip. The newest run's, when a cut left an older one with the same promise.
    fn link<'a>(&mut self, seen: &'a [Seen]) -> Option<&'a Seen> {
        let continues = |file: &&Seen| {
            let header = &file.header;
            header.first_lsn == self.tip.lsn.next()
                && header.prev_crc == self.tip.crc
                && header.number > self.tip.file_no
        };
        let next = seen.iter().filter(continues).max_by_key(|file| (file.header.incarnation, file.header.number))?;
        self.tip.file_no = next.header.number;
        self.tip.at = FILE_HEADER_BYTES as u64;
        Some(next)
    }

    /// Walks the groups of one file.
    fn file(&mut self, file: &Seen, bytes: &[u8]) -> Result<(), ScanFault> {
        self.chain.push(Used { slot: file.slot, file_no: file.header.number, first_lsn: file.header.first_lsn });
        self.told.look(self.source, bytes);
        let end = loop {
            match self.source.group(bytes, self.tip) {
                Ok(group) => {
                    self.tip = group.tip;
                    for (header, body) in &group.headers {
                        let fault = |fault| ScanFault::Body { file: file.slot.path(), lsn: header.lsn, fault };
                        op::check(&bytes[body.clone()], header.op_count).map_err(fault)?;
                    }
                }
                Err(end) => break end,
            }
        };
        self.dropped = match end {
            End::Zero => None,
            End::Torn => Some(dropped(file.slot, bytes, self.tip.at)),
            End::Newer(fault) => {
                return Err(ScanFault::Newer { file: file.slot.path(), fault: fault.to_string() });
            }
        };
        // A file that ends without room for one more group has nothing behind it.
        let at = usize::try_from(self.tip.at).expect("fits into memory");
        if at + FRAME_HEADER_BYTES > bytes.len() {
            self.dropped = None;
        }
        Ok(())
    }
}

/// What stands at the cut, up to the first empty block.
fn dropped(slot: Slot, bytes: &[u8], at: u64) -> Dropped {
    let rest = bytes.get(usize::try_from(at).expect("fits into memory")..).unwrap_or_default();
    let blocks = rest.chunks(ALIGN).take_while(|block| block.iter().any(|&byte| byte != 0)).count();
    let len = (blocks * ALIGN).min(rest.len()).min(DROPPED_BYTES_MAX);
    Dropped { slot, at, bytes: rest[..len].to_vec() }
}

/// Adds the frames above the tip that stand in a file without a header. A power cut leaves such a file when the write
/// of its header was lost and the first group behind it was not; damage leaves one that held durable frames.
fn strays_in(source: &Source<'_>, slot: Slot, bytes: &[u8], tip: Lsn, strays: &mut Vec<Dropped>) {
    let mut at = 0;
    while let Some(block) = bytes.get(at..at + ALIGN) {
        let is_stray = FrameHeader::decode(block, source.seed).is_ok_and(|header| header.lsn > tip);
        let had: usize = strays.iter().map(|stray| stray.bytes.len()).sum();
        if !is_stray || had >= DROPPED_BYTES_MAX {
            at += ALIGN;
            continue;
        }
        let stray = dropped(slot, bytes, at as u64);
        at += stray.bytes.len();
        strays.push(stray);
    }
}

/// What valid frames at aligned positions tell, wherever they stand.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    durable: Lsn,
    incarnation: Incarnation,
}

impl Told {
    fn look(&mut self, source: &Source<'_>, bytes: &[u8]) {
        for header in bytes.chunks(ALIGN).filter_map(|block| FrameHeader::decode(block, source.seed).ok()) {
            self.durable = self.durable.max(header.durable_lsn);
            self.incarnation = self.incarnation.max(header.incarnation);
        }
    }
}

/// The journal's files, sorted. Their names are made durable before they are believed.
fn slots(disk: &dyn Disk) -> Result<Vec<Slot>, ScanFault> {
    let io = |source| ScanFault::Io { action: "listing", file: JOURNAL_DIR.to_owned(), source };
    disk.sync_dir(JOURNAL_DIR).map_err(io)?;
    let entries = disk.list(JOURNAL_DIR).map_err(io)?;
    Ok(entries.iter().filter_map(|entry| Slot::from_name(&entry.name)).collect())
}

/// Reads the groups behind a checkpoint again, in order, as publish gets them.
pub struct Replay<'a> {
    source: Source<'a>,
    files: std::vec::IntoIter<Used>,
    /// Files to their slot, to name them in errors.
    slots: BTreeMap<u64, Slot>,
    buffer: AlignedBuf,
    is_loaded: bool,
    tip: Tip,
    last: Tip,
    buffers: AlignedPool,
}

impl<'a> Replay<'a> {
    /// Replays what [`scan`] found from `start` to its tip.
    pub fn new(source: Source<'a>, start: Tip, found: &Found, buffers: AlignedPool) -> Self {
        let slots = found.chain.iter().map(|file| (file.file_no, file.slot)).collect();
        let capacity = if found.chain.is_empty() { 0 } else { usize::try_from(source.file_bytes).unwrap_or(0) };
        Self {
            source,
            files: found.chain.clone().into_iter(),
            slots,
            buffer: AlignedBuf::with_capacity(capacity),
            is_loaded: false,
            tip: start,
            last: found.tip,
            buffers,
        }
    }

    /// The next group; none behind the tip.
    pub fn next_group(&mut self) -> Result<Option<Group>, ScanFault> {
        while self.tip.lsn < self.last.lsn {
            if self.is_loaded
                && let Ok(group) = self.source.group(self.buffer.as_slice(), self.tip)
            {
                return self.take(&group).map(Some);
            }
            let Some(file) = self.files.next() else { break };
            self.source.load(file.slot, &mut self.buffer)?;
            self.is_loaded = true;
            if file.file_no != self.tip.file_no {
                self.tip.file_no = file.file_no;
                self.tip.at = FILE_HEADER_BYTES as u64;
            }
        }
        Ok(None)
    }

    /// Copies a group into a buffer of its own, so that the tail does not pin a whole file.
    fn take(&mut self, group: &WholeGroup) -> Result<Group, ScanFault> {
        let start = usize::try_from(self.tip.at).expect("fits into memory");
        let mut own = self.buffers.take(group.end - start);
        own.push(&self.buffer.as_slice()[start..group.end]);
        let pinned_bytes = own.capacity();
        let shared = own.freeze();
        let mut frames = Vec::with_capacity(group.headers.len());
        for (header, body) in &group.headers {
            let body = shared.slice(body.start - start..body.end - start);
            let file = self.slots.get(&self.tip.file_no).map_or_else(String::new, |slot| slot.path());
            let fault = |fault| ScanFault::Body { file, lsn: header.lsn, fault };
            frames.push(frame(header, &body).map_err(fault)?);
        }
        let position = frames.last().map_or(self.tip.position, |last| last.position + last.record_count());
        self.tip = Tip { position, ..group.tip };
        Ok(Group { frames, answers: Vec::new(), file: None, tip: self.tip, pinned_bytes })
    }
}
