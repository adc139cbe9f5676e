//! Frames in, groups out: the only user-space copy on the write road.
//!
//! What a group holds is decided by what is in the inbox at the step, never by a timer: while a group is on its way to
//! the disk the next one gathers. A group never spans files, and behind it stands one block of zeros that the next
//! group overwrites, so that the end of the journal is seen even in a file that is used again.

use std::sync::Arc;

use crate::{
    answer::Pending,
    disk::{self, Disk, Mode, aligned::AlignedPool},
    header::{FILE_HEADER_BYTES, FileHeader, FileKind},
    journal::{
        Frame, Group, GroupFile, Identity, Sequenced, Tip,
        frame::{FRAME_HEADER_BYTES, FrameHeader, flag, group_bytes},
        op::{BATCH_DATA_AT, Op},
        poison,
        pool::{Pool, Used},
    },
    limits::ALIGN,
    marks::Marks,
    notice::Lack,
    poison::Poison,
    stage::{Bell, Now, Queue, Stage, Step},
};

/// From here on combining a batch's CRC is cheaper than computing one over its copy.
const COMBINE_BYTES_MIN: usize = 4 << 10;

/// After a lack of descriptors, the next file is tried again after this long.
const RETRY_US: u64 = 50_000;

/// What became of the next file.
enum Rolled {
    Begun,
    /// The pool has none: it rings when one comes free.
    NoFile,
    /// It could not be opened for want of something that comes back.
    Lacking,
}

/// Where a writer goes on: recovery is the only one who can make it.
pub struct Resume {
    /// The last frame and the place behind it.
    pub tip: Tip,
    /// The file that has room at `tip.at`; none before the first file.
    pub file: Option<GroupFile>,
}

/// The group write stage.
pub struct Writer {
    disk: Arc<dyn Disk>,
    pool: Arc<Pool>,
    buffers: AlignedPool,
    identity: Identity,
    seed: u32,
    marks: Arc<Marks>,
    poison: Arc<Poison>,
    file_bytes: u64,
    group_bytes: usize,
    inbox: Arc<Queue<Sequenced>>,
    outbox: Arc<Queue<Group>>,
    tip: Tip,
    file: Option<GroupFile>,
    /// The next file, taken from the pool and not opened yet.
    rolling: Option<Used>,
    lack: Lack,
    staged: Staged,
    bell: Bell,
}

/// What the next group will hold.
#[derive(Default)]
struct Staged {
    frames: Vec<Frame>,
    answers: Vec<Pending>,
    bytes: usize,
    /// An item that did not fit any more.
    next: Option<Sequenced>,
}

/// What a writer is made of.
pub struct Parts {
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// Where files come from.
    pub pool: Arc<Pool>,
    /// Where buffers come from.
    pub buffers: AlignedPool,
    /// Whose files these are.
    pub identity: Identity,
    /// Read: how far frames are durable.
    pub marks: Arc<Marks>,
    /// Set when a write fails.
    pub poison: Arc<Poison>,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// A group has at most so many bytes in the file, the zeros behind it counted; a larger frame is a group alone.
    pub group_bytes: usize,
    /// From `sequence`.
    pub inbox: Arc<Queue<Sequenced>>,
    /// To the group sync.
    pub outbox: Arc<Queue<Group>>,
    /// What wakes it.
    pub bell: Bell,
}

impl Writer {
    /// Goes on behind what recovery kept.
    pub fn resume(parts: Parts, resume: Resume) -> Self {
        let Parts { disk, pool, buffers, identity, marks, poison, file_bytes, group_bytes, inbox, outbox, bell } =
            parts;
        let lack = Lack::new(pool.notices().clone(), "the journal");
        Self {
            disk,
            pool,
            buffers,
            identity,
            seed: identity.seed(),
            marks,
            poison,
            file_bytes,
            group_bytes,
            inbox,
            outbox,
            tip: resume.tip,
            file: resume.file,
            rolling: None,
            lack,
            staged: Staged::default(),
            bell,
        }
    }

    /// Takes what is in the inbox, up to one group.
    fn gather(&mut self) {
        let room = usize::try_from(self.file_bytes).unwrap_or(usize::MAX) - FILE_HEADER_BYTES;
        let room = room.min(self.group_bytes);
        loop {
            let Some(item) = self.staged.next.take().or_else(|| self.inbox.pop()) else { return };
            if let Some(frame) = &item.frame {
                let bytes = frame.encoded_bytes();
                let full = group_bytes(self.staged.bytes + bytes) + ALIGN > room;
                if full && !self.staged.frames.is_empty() {
                    self.staged.next = Some(item);
                    return;
                }
                self.staged.bytes += bytes;
            }
            self.staged.frames.extend(item.frame);
            self.staged.answers.push(item.pending);
        }
    }

    /// Whether the staged group and the zeros behind it fit the file.
    fn fits(&self) -> bool {
        self.file.is_some() && self.tip.at + (group_bytes(self.staged.bytes) + ALIGN) as u64 <= self.file_bytes
    }

    /// Starts the next file: one write of its header.
    fn roll(&mut self) -> std::io::Result<Rolled> {
        let begun = self.rolling.take().or_else(|| self.pool.begin(self.tip.lsn.next()));
        let Some(used) = begun else { return Ok(Rolled::NoFile) };
        let path = used.slot.path();
        let opened = match self.pool.kept(used.slot) {
            Some(file) => Ok(file),
            None => disk::or_lack(self.disk.open(&path, Mode::Write, true))?,
        };
        let file = match opened {
            Ok(file) => file,
            Err(cause) => {
                self.lack.begins(&path, &cause);
                self.rolling = Some(used);
                return Ok(Rolled::Lacking);
            }
        };
        self.lack.ends();
        self.pool.keep(used.slot, file.clone());
        let header = FileHeader {
            kind: FileKind::Journal,
            compatible_flags: 0,
            cluster: self.identity.cluster,
            node: self.identity.node,
            shard: 0,
            number: used.file_no,
            first_lsn: used.first_lsn,
            prev_crc: self.tip.crc,
            incarnation: self.identity.incarnation,
        };
        // The zeros behind the header end the journal here until the first group comes.
        let mut buffer = self.buffers.take(FILE_HEADER_BYTES + ALIGN);
        buffer.push(&header.encode());
        buffer.grow_zeroed(ALIGN);
        disk::write_all_at(&*file, buffer.as_slice(), 0)?;
        self.file = Some(GroupFile { file, file_no: used.file_no });
        self.tip.file_no = used.file_no;
        self.tip.at = FILE_HEADER_BYTES as u64;
        Ok(Rolled::Begun)
    }

    /// Puts the staged frames together in one buffer and writes it.
    fn write(&mut self) -> std::io::Result<Group> {
        let mut frames = std::mem::take(&mut self.staged.frames);
        let mut buffer = self.buffers.take(group_bytes(std::mem::take(&mut self.staged.bytes)) + ALIGN);
        let last = frames.len() - 1;
        let durable_lsn = self.marks.durable.get();
        let mut places = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            let start = buffer.len();
            buffer.grow_zeroed(FRAME_HEADER_BYTES);
            for op in &frame.ops {
                places.extend(op.encode(&mut buffer));
            }
            let body_len = buffer.len() - start - FRAME_HEADER_BYTES;
            let body_crc = body_crc(&frame.ops, &buffer.as_slice()[start + FRAME_HEADER_BYTES..]);
            if index == last {
                buffer.pad(ALIGN);
            }
            let header = FrameHeader {
                flags: if index == 0 { flag::FIRST } else { 0 } | if index == last { flag::LAST } else { 0 },
                header_crc: 0,
                frame_len: u32::try_from(buffer.len() - start).expect("frames are at most 16 MiB"),
                body_len: u32::try_from(body_len).expect("frames are at most 16 MiB"),
                body_crc,
                prev_crc: self.tip.crc,
                lsn: frame.lsn,
                epoch: 1,
                incarnation: self.identity.incarnation,
                durable_lsn,
                time_us: frame.time_us,
                position: frame.position,
                shard: 0,
                op_count: u32::try_from(frame.ops.len()).expect("an append has at most 65,536 records"),
            };
            let (bytes, crc) = header.encode(self.seed);
            buffer.as_mut_slice()[start..start + FRAME_HEADER_BYTES].copy_from_slice(&bytes);
            assert_eq!(frame.lsn, self.tip.lsn.next(), "frames come in order");
            let position = frame.position + frame.record_count();
            let (time_us, incarnation) = (frame.time_us, self.identity.incarnation);
            self.tip = Tip { lsn: frame.lsn, crc, time_us, position, incarnation, ..self.tip };
        }
        let group_len = buffer.len();
        buffer.grow_zeroed(ALIGN);
        let file = self.file.clone().expect("a group is written into a file that has room for it");
        disk::write_all_at(&*file.file, buffer.as_slice(), self.tip.at)?;
        self.tip.at += group_len as u64;

        // From here on the batches are slices of the group's buffer; what the client's call held is let go.
        let pinned_bytes = buffer.capacity();
        let shared = buffer.freeze();
        let batches = frames.iter_mut().flat_map(|frame| &mut frame.ops).filter_map(|op| match op {
            Op::Batch(batch) => Some(&mut batch.batch),
            _ => None,
        });
        for (batch, place) in batches.zip(places) {
            batch.data = shared.slice(place);
        }
        let answers = std::mem::take(&mut self.staged.answers);
        Ok(Group { frames, answers, file: Some(file), tip: self.tip, pinned_bytes })
    }

    /// Nothing more will be written: whoever waits learns that nobody knows.
    fn drain(&mut self) -> Step {
        let Some(poisoned) = self.poison.first() else { return Step::Poisoned };
        let staged = std::mem::take(&mut self.staged);
        let queued = std::iter::from_fn(|| self.inbox.pop());
        let pendings = staged.answers.into_iter().chain(staged.next.into_iter().chain(queued).map(|item| item.pending));
        for pending in pendings {
            pending.give_unknown(&poisoned);
        }
        Step::Poisoned
    }
}

/// CRC-32 of a body. A large batch brings its own, which was verified at admission: combined with the rest it covers
/// the bytes as they were sent, so that a copy gone wrong is found by whoever reads the frame.
fn body_crc(ops: &[Op], body: &[u8]) -> u32 {
    let (mut hasher, mut at) = (crc32fast::Hasher::new(), 0);
    let mut rest = body;
    for op in ops {
        let (bytes, left) = rest.split_at(op.encoded_bytes());
        match op {
            Op::Batch(batch) if batch.batch.data.len() >= COMBINE_BYTES_MIN => {
                let data = batch.batch.data.len();
                hasher.update(&bytes[..BATCH_DATA_AT]);
                hasher.combine(&crc32fast::Hasher::new_with_initial_len(batch.batch.crc32, data as u64));
                hasher.update(&bytes[BATCH_DATA_AT + data..]);
            }
            _ => hasher.update(bytes),
        }
        at += bytes.len();
        rest = left;
    }
    assert_eq!(at, body.len(), "a body is its operations");
    hasher.finalize()
}

impl Stage for Writer {
    fn name(&self) -> &'static str {
        "write"
    }

    fn bell(&self) -> &Bell {
        &self.bell
    }

    fn step(&mut self, now: Now) -> Step {
        if self.poison.is_set() {
            return self.drain();
        }
        if !self.outbox.has_room() {
            return Step::Idle;
        }
        self.gather();
        if self.staged.answers.is_empty() {
            return Step::Idle;
        }
        let group = if self.staged.frames.is_empty() {
            let answers = std::mem::take(&mut self.staged.answers);
            Ok(Group { answers, tip: self.tip, ..Group::default() })
        } else if self.fits() {
            self.write()
        } else {
            match self.roll() {
                Ok(Rolled::Begun) => return Step::Did,
                Ok(Rolled::NoFile) => return Step::Idle,
                Ok(Rolled::Lacking) => return Step::Until(now.mono_us + RETRY_US),
                Err(error) => Err(error),
            }
        };
        match group {
            Ok(group) => {
                let pushed = self.outbox.push(group);
                assert!(pushed.is_ok(), "the room was asked for before");
                Step::Did
            }
            Err(error) => {
                let path = self.file.as_ref().map_or("journal", |file| file.file.path());
                poison(&self.poison, "write", path, &error);
                self.drain()
            }
        }
    }
}

#[cfg(all(test, feature = "sim"))]
#[path = "writer_tests.rs"]
mod tests;
