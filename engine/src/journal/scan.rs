//! Reading the journal back: only recovery does it, and it believes nothing but the disk.
//!
//! [`scan`] walks the chain of groups from the checkpoint's place to its end and looks ahead, in every file, for what
//! later frames say was durable; it applies nothing.

use std::{io, sync::Arc};

use crate::{
    disk::{self, Disk, DiskFile, Mode, aligned::AlignedBuf},
    header::{FILE_HEADER_BYTES, FileHeader, FileKind, HeaderFault},
    id::{Incarnation, Lsn},
    journal::{
        Tip,
        frame::{FRAME_HEADER_BYTES, FrameFault, FrameHeader, flag},
        op::{self, OpFault},
        pool::{JOURNAL_DIR, Slot, Used},
        window::Window,
    },
    limits::ALIGN,
};

/// A dropped tail is looked at, and copied, up to this many bytes.
pub const DROPPED_BYTES_MAX: usize = 16 << 20;
/// A file without a header is looked through in pieces of this many bytes.
const PIECE_BYTES: usize = 256 << 10;

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
    /// Files without a header that hold nothing but what a crash leaves: room, or frames of ours.
    pub unfilled: Vec<Slot>,
    /// Files that have the name of a slot and are not ours, and why.
    pub foreign: Vec<(Slot, Foreign)>,
    /// The number that the next file gets.
    pub next_file_no: u64,
    /// What stands behind the tip and is not zero.
    pub dropped: Option<Dropped>,
    /// Frames above the tip in files whose header is not one: together at most some [`DROPPED_BYTES_MAX`].
    pub strays: Vec<Dropped>,
}

/// Why a file with the name of a slot is not one of this journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Its header is whole, and of another data directory or of another kind of file.
    Header,
    /// No frame of ours is in it, and other bytes are at `at`.
    Unknown {
        /// Byte position.
        at: u64,
    },
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header => f.write_str("its header is of another data directory or of another kind of file"),
            Self::Unknown { at } => write!(f, "it holds no frame, and other bytes at {at}"),
        }
    }
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

/// What the header of a file says.
enum Front {
    /// It is one of ours.
    Ours(FileHeader),
    /// It is one of ours, and the file is shorter than the setting says.
    Short,
    /// It is whole, and not of this journal.
    Foreign,
    /// There is none, or it is damaged.
    Missing,
}

/// Why a walk over groups ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A zero header: nothing was written here since the file was filled.
    Zero,
    /// Something else that is not the next group.
    Torn,
    /// A frame of a newer version.
    Newer(FrameFault),
}

/// A whole group: its frames, with their bodies' places behind its beginning, and its length.
pub(super) struct WholeGroup {
    pub(super) headers: Vec<(FrameHeader, std::ops::Range<usize>)>,
    pub(super) bytes: usize,
    pub(super) tip: Tip,
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

    /// Moves the window to a file.
    pub(super) fn load(&self, slot: Slot, window: &mut Window) -> Result<(), ScanFault> {
        window.open(self.open(slot)?);
        Ok(())
    }

    /// What the header of a file says.
    fn front(&self, slot: Slot) -> Result<Front, ScanFault> {
        let file = self.open(slot)?;
        let mut bytes = AlignedBuf::with_capacity(FILE_HEADER_BYTES);
        bytes.fill_to(FILE_HEADER_BYTES);
        let count = disk::read_full_at(&*file, bytes.as_mut_slice(), 0).map_err(Self::io("reading", slot))?;
        let whole = file.bytes().map_err(Self::io("measuring", slot))? >= self.file_bytes;
        match FileHeader::decode_kind(&bytes.as_slice()[..count], FileKind::Journal) {
            Ok(header) if crc32fast::hash(&header.cluster.0) != self.seed => Ok(Front::Foreign),
            Ok(header) if whole => Ok(Front::Ours(header)),
            Ok(_) => Ok(Front::Short),
            Err(fault @ (HeaderFault::NewerVersion { .. } | HeaderFault::IncompatibleFlags { .. })) => {
                Err(ScanFault::Newer { file: slot.path(), fault: fault.to_string() })
            }
            // Its checksum held.
            Err(HeaderFault::WrongKind { .. } | HeaderFault::NonZeroPadding { .. }) => Ok(Front::Foreign),
            Err(HeaderFault::Short { .. } | HeaderFault::BadMagic { .. } | HeaderFault::BadCrc { .. }) => {
                Ok(Front::Missing)
            }
        }
    }

    /// Where a file without a header holds bytes that are not of ours, as far as that can be told. A power cut may
    /// leave anything in the header of a file that was filled, and in the zero block behind it; nothing where a file
    /// was being filled.
    fn other_bytes(&self, slot: Slot) -> Result<Option<u64>, ScanFault> {
        let file = self.open(slot)?;
        let end = file.bytes().map_err(Self::io("measuring", slot))?;
        let is_filled = end == self.file_bytes;
        let mut at = if is_filled { (FILE_HEADER_BYTES + ALIGN) as u64 } else { 0 };
        let mut piece = AlignedBuf::with_capacity(PIECE_BYTES);
        piece.fill_to(PIECE_BYTES);
        while at < end {
            let count = disk::read_full_at(&*file, piece.as_mut_slice(), at).map_err(Self::io("reading", slot))?;
            if count == 0 {
                break;
            }
            if let Some(place) = piece.as_slice()[..count].iter().position(|&byte| byte != 0) {
                return Ok(Some(at + place as u64));
            }
            at += count as u64;
        }
        Ok(None)
    }

    /// The group at `tip.at`, when it is the whole next one.
    pub(super) fn group(&self, window: &mut Window, tip: Tip) -> io::Result<Result<WholeGroup, End>> {
        let start = tip.at;
        let (mut tip, mut headers, mut inside) = (tip, Vec::new(), 0);
        loop {
            let bytes = window.bytes(start, inside + FRAME_HEADER_BYTES)?;
            let header = match FrameHeader::decode(bytes.get(inside..).unwrap_or_default(), self.seed) {
                Ok(header) => header,
                Err(FrameFault::Zero) if headers.is_empty() => return Ok(Err(End::Zero)),
                Err(fault @ FrameFault::Newer { .. }) => return Ok(Err(End::Newer(fault))),
                Err(_) => return Ok(Err(End::Torn)),
            };
            let continues = header.lsn == tip.lsn.next()
                && header.prev_crc == tip.crc
                && header.incarnation >= tip.incarnation
                && header.has(flag::FIRST) == headers.is_empty();
            let continues = continues || cfg!(bug = "stale_frame");
            let body = inside + FRAME_HEADER_BYTES..inside + FRAME_HEADER_BYTES + header.body_len as usize;
            let end = inside + header.frame_len as usize;
            // Its length is believed, since its checksum held, but not beyond the file.
            if !continues || start + end as u64 > window.file_bytes() {
                return Ok(Err(End::Torn));
            }
            let is_whole = window.bytes(start, end)?.get(body.clone()).map(crc32fast::hash) == Some(header.body_crc);
            if !is_whole {
                return Ok(Err(End::Torn));
            }
            let is_last = header.has(flag::LAST);
            tip = Tip {
                lsn: header.lsn,
                crc: header.header_crc,
                time_us: header.time_us,
                position: header.position,
                incarnation: header.incarnation,
                file_no: tip.file_no,
                at: start + end as u64,
            };
            if cfg!(bug = "padding_is_end") {
                tip.at = start + body.end as u64;
            }
            headers.push((header, body));
            if is_last {
                let aligned = (start + end as u64).is_multiple_of(ALIGN as u64);
                return Ok(if aligned { Ok(WholeGroup { headers, bytes: end, tip }) } else { Err(End::Torn) });
            }
            inside = end;
        }
    }
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
    let (mut seen, mut others) = (Vec::new(), Vec::new());
    for slot in slots {
        match source.front(slot)? {
            Front::Ours(header) => seen.push(Seen { slot, header }),
            front => others.push((slot, front)),
        }
    }
    let mut walk = Walk { source, tip: start, told: Told::default(), chain: Vec::new(), dropped: None };
    let mut window = Window::new(source.file_bytes);
    let mut current = seen.iter().find(|file| file.header.number == start.file_no).filter(|_| start.lsn > Lsn(0));
    if current.is_none() {
        current = walk.link(&seen);
    }
    while let Some(file) = current {
        source.load(file.slot, &mut window)?;
        walk.file(file, &mut window)?;
        current = walk.link(&seen);
    }
    let Walk { mut tip, mut told, chain, dropped, .. } = walk;
    let (mut free, mut unfilled, mut foreign, mut strays) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for file in seen.iter().filter(|file| chain.iter().all(|used| used.slot != file.slot)) {
        source.load(file.slot, &mut window)?;
        told.look(source, &mut window, 0..source.file_bytes).map_err(Source::io("reading", file.slot))?;
        free.push(file.slot);
    }
    for (slot, front) in others {
        source.load(slot, &mut window)?;
        let before = told.frames;
        told.look(source, &mut window, 0..source.file_bytes).map_err(Source::io("reading", slot))?;
        match front {
            Front::Foreign => foreign.push((slot, Foreign::Header)),
            Front::Missing if told.frames == before => match source.other_bytes(slot)? {
                Some(at) => foreign.push((slot, Foreign::Unknown { at })),
                None => unfilled.push(slot),
            },
            Front::Missing | Front::Short | Front::Ours(_) => {
                strays_in(source, slot, &mut window, tip.lsn, &mut strays).map_err(Source::io("reading", slot))?;
                unfilled.push(slot);
            }
        }
    }
    if chain.is_empty() {
        tip.at = 0;
    }
    let next_file_no =
        seen.iter().map(|file| file.header.number).chain([tip.file_no]).max().unwrap_or(0).saturating_add(1);
    let headers = seen.iter().map(|file| file.header.incarnation).max().unwrap_or_default();
    let (lookahead, newest_incarnation) = (told.durable, told.incarnation.max(headers));
    Ok(Found { tip, lookahead, newest_incarnation, chain, free, unfilled, foreign, next_file_no, dropped, strays })
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

    /// Walks the groups of one file, and looks at all of it.
    fn file(&mut self, file: &Seen, window: &mut Window) -> Result<(), ScanFault> {
        let slot = file.slot;
        let io = || Source::io("reading", slot);
        self.chain.push(Used { slot, file_no: file.header.number, first_lsn: file.header.first_lsn });
        self.told.look(self.source, window, 0..self.tip.at).map_err(io())?;
        let end = loop {
            let start = self.tip.at;
            let group = match self.source.group(window, self.tip).map_err(io())? {
                Ok(group) => group,
                Err(end) => break end,
            };
            let bytes = window.bytes(start, group.bytes).map_err(io())?;
            for (header, body) in &group.headers {
                let fault = |fault| ScanFault::Body { file: slot.path(), lsn: header.lsn, fault };
                op::check(&bytes[body.clone()], header.op_count).map_err(fault)?;
            }
            // The group is in the window still.
            self.tip = group.tip;
            self.told.look(self.source, window, start..start + group.bytes as u64).map_err(io())?;
        };
        self.dropped = match end {
            End::Zero => None,
            End::Torn => Some(dropped(slot, window, self.tip.at).map_err(io())?),
            End::Newer(fault) => {
                return Err(ScanFault::Newer { file: slot.path(), fault: fault.to_string() });
            }
        };
        // A file that ends without room for one more group has nothing behind it.
        if self.tip.at.saturating_add(FRAME_HEADER_BYTES as u64) > window.file_bytes() {
            self.dropped = None;
        }
        self.told.look(self.source, window, self.tip.at..window.file_bytes()).map_err(io())
    }
}

/// What stands at a position, up to the first empty block.
fn dropped(slot: Slot, window: &mut Window, at: u64) -> io::Result<Dropped> {
    let mut bytes = Vec::new();
    while bytes.len() < DROPPED_BYTES_MAX {
        let block = window.bytes(at + bytes.len() as u64, ALIGN)?;
        if block.iter().all(|&byte| byte == 0) {
            break;
        }
        bytes.extend_from_slice(block);
    }
    Ok(Dropped { slot, at, bytes })
}

/// Adds the frames above the tip that stand in a file without a header. A power cut leaves such a file when the write
/// of its header was lost and the first group behind it was not; damage leaves one that held durable frames.
fn strays_in(
    source: &Source<'_>,
    slot: Slot,
    window: &mut Window,
    tip: Lsn,
    strays: &mut Vec<Dropped>,
) -> io::Result<()> {
    let (mut at, mut had) = (0, strays.iter().map(|stray| stray.bytes.len()).sum::<usize>());
    while at < window.file_bytes() && had < DROPPED_BYTES_MAX {
        let header = FrameHeader::decode(window.bytes(at, FRAME_HEADER_BYTES)?, source.seed);
        if !header.is_ok_and(|header| header.lsn > tip) {
            at += ALIGN as u64;
            continue;
        }
        let stray = dropped(slot, window, at)?;
        at += stray.bytes.len() as u64;
        had += stray.bytes.len();
        strays.push(stray);
    }
    Ok(())
}

/// What valid frames at aligned positions tell, wherever they stand.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    durable: Lsn,
    incarnation: Incarnation,
    /// How many there were.
    frames: u64,
}

impl Told {
    fn note(&mut self, header: &FrameHeader) {
        self.durable = self.durable.max(header.durable_lsn);
        self.incarnation = self.incarnation.max(header.incarnation);
        self.frames += 1;
    }

    /// Looks at every aligned position of a range.
    fn look(&mut self, source: &Source<'_>, window: &mut Window, range: std::ops::Range<u64>) -> io::Result<()> {
        // The tables name the place where a walk begins: it may be anywhere.
        let (start, end) = (range.start.min(window.file_bytes()), range.end.min(window.file_bytes()));
        for at in (start.next_multiple_of(ALIGN as u64)..end).step_by(ALIGN) {
            if let Ok(header) = FrameHeader::decode(window.bytes(at, FRAME_HEADER_BYTES)?, source.seed) {
                self.note(&header);
            }
        }
        Ok(())
    }
}

/// The journal's files, sorted. Their names are made durable before they are believed.
fn slots(disk: &dyn Disk) -> Result<Vec<Slot>, ScanFault> {
    let io = |source| ScanFault::Io { action: "listing", file: JOURNAL_DIR.to_owned(), source };
    disk.sync_dir(JOURNAL_DIR).map_err(io)?;
    let entries = disk.list(JOURNAL_DIR).map_err(io)?;
    Ok(entries.iter().filter_map(|entry| Slot::from_name(&entry.name)).collect())
}
