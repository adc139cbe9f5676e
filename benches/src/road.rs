//! The journal's two stages, `write` and `sync`, stepped by hand on a disk of choice.
//!
//! Comes in: batches. Goes out: groups, written or durable. The files were filled with zeros before and are given back
//! as soon as their frames are covered, so that what is measured is a journal that has been running for a while.

use std::{io, sync::Arc};

use tillroll_engine::{
    answer::{Answer, Pending},
    batch::Batch,
    codec::Codec,
    disk::{
        Disk, DiskFile, Mode,
        aligned::{AlignedBuf, AlignedPool},
        write_all_at,
    },
    id::{Incarnation, Lane, Lsn, Offset, Partition, TopicId, Uid},
    journal::{
        Frame, Group, Identity, Sequenced, Tip,
        control::Watermark,
        frame::FRAME_HEADER_BYTES,
        op::{BATCH_DATA_AT, BatchOp, Op},
        pool::{Files, JOURNAL_DIR, Pool, Slot},
        sync::{self, Sync},
        writer::{self, Resume, Writer},
    },
    marks::Marks,
    poison::Poison,
    stage::{Bell, Now, Queue, Stage},
};

/// Bytes of one journal file, as a broker has them.
const FILE_BYTES: u64 = 64 << 20;
/// One that is written, one that was just given back, one in reserve.
const FILES: u32 = 3;
/// Bytes of a group that are not its one batch's data.
const AROUND_BYTES: usize = FRAME_HEADER_BYTES + BATCH_DATA_AT;
/// Unused buffers that are kept.
const BUFFER_BYTES: usize = 16 << 20;
/// Zeros are written in pieces of this many bytes.
const PIECE_BYTES: usize = 4 << 20;
/// A road that did not get a group through in so many steps never will.
const STEPS_MAX: usize = 16;

/// The journal of one shard, without what stands before and behind it.
pub struct Road {
    writer: Writer,
    sync: Sync,
    inbox: Arc<Queue<Sequenced>>,
    written: Arc<Queue<Group>>,
    durable: Arc<Queue<Group>>,
    pool: Arc<Pool>,
    poison: Arc<Poison>,
    lsn: Lsn,
    position: u64,
}

impl Road {
    /// A journal on `disk`, whose files are filled first.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn new(disk: &Arc<dyn Disk>) -> io::Result<Self> {
        disk.create_dir(JOURNAL_DIR)?;
        let free: Vec<Slot> = (0..FILES).map(Slot).collect();
        for slot in &free {
            fill(&**disk, &slot.path(), FILE_BYTES)?;
        }
        disk.sync_dir(JOURNAL_DIR)?;
        let bell = Bell::default();
        let (inbox, written, durable) =
            (Queue::new(1, &bell, &bell), Queue::new(1, &bell, &bell), Queue::new(1, &bell, &bell));
        let files = Files { free, next_file_no: 1, ..Files::default() };
        let pool = Pool::new(FILES, files, [Bell::default(), Bell::default()], &bell, Arc::default());
        let (marks, poison) = (Arc::<Marks>::default(), Arc::<Poison>::default());
        let identity = Identity { cluster: Uid([1; 16]), node: Uid([2; 16]), incarnation: Incarnation(1) };
        let writer = writer::Parts {
            disk: disk.clone(),
            pool: pool.clone(),
            buffers: AlignedPool::new(BUFFER_BYTES),
            identity,
            marks: marks.clone(),
            poison: poison.clone(),
            file_bytes: FILE_BYTES,
            group_bytes: 2 << 20,
            inbox: inbox.clone(),
            outbox: written.clone(),
            bell: bell.clone(),
        };
        let sync = sync::Parts {
            watermark: Watermark::open(&**disk)?,
            incarnation: identity.incarnation,
            marks,
            poison: poison.clone(),
            syncs: Arc::default(),
            inbox: written.clone(),
            outbox: durable.clone(),
            bell,
        };
        let writer = Writer::resume(writer, Resume { tip: Tip::default(), file: None });
        Ok(Self { writer, sync: Sync::new(sync), inbox, written, durable, pool, poison, lsn: Lsn(0), position: 0 })
    }

    /// Puts a frame of this batch into a group and writes it.
    ///
    /// # Panics
    ///
    /// When the disk fails: a bench has nothing to measure then.
    pub fn write(&mut self, batch: &Batch) -> Group {
        self.enter(batch);
        let written = self.written.clone();
        let group = through(&mut self.writer, &written, &self.poison);
        self.pool.release(self.lsn);
        group
    }

    /// The same, and one sync.
    ///
    /// # Panics
    ///
    /// As [`Road::write`].
    pub fn append(&mut self, batch: &Batch) -> Group {
        self.enter(batch);
        for _ in 0..STEPS_MAX {
            if !self.written.is_empty() {
                break;
            }
            self.writer.step(Now::default());
        }
        let durable = self.durable.clone();
        let group = through(&mut self.sync, &durable, &self.poison);
        self.pool.release(self.lsn);
        group
    }

    fn enter(&mut self, batch: &Batch) {
        self.lsn = self.lsn.next();
        let lane = Lane { topic: TopicId(1), partition: Partition(0) };
        let op = BatchOp { lane, batch_index: 0, base: Offset(self.position), batch: batch.clone() };
        let frame = Frame { lsn: self.lsn, time_us: 0, position: self.position, ops: vec![Op::Batch(op)] };
        self.position += u64::from(batch.record_count);
        let pending = Pending { answer: Answer::nobody(), permit: None, rests_on: self.lsn };
        assert!(self.inbox.push(Sequenced { frame: Some(frame), pending }).is_ok(), "the last one was taken");
    }
}

/// Steps a stage until it hands a group on.
fn through(stage: &mut dyn Stage, outbox: &Queue<Group>, poison: &Poison) -> Group {
    for _ in 0..STEPS_MAX {
        stage.step(Now::default());
        if let Some(group) = outbox.pop() {
            return group;
        }
    }
    panic!("no group came out of `{}`: {:?}", stage.name(), poison.first());
}

/// Makes a file of `bytes` zeros that are on the disk, and opens it past the page cache.
///
/// # Errors
///
/// What the disk says.
pub fn fill(disk: &dyn Disk, path: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(path, Mode::Create, true)?;
    file.allocate(0, bytes)?;
    let mut zeros = AlignedBuf::with_capacity(PIECE_BYTES);
    zeros.grow_zeroed(PIECE_BYTES);
    for at in (0..bytes).step_by(PIECE_BYTES) {
        let piece = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
        write_all_at(&*file, &zeros.as_slice()[..piece], at)?;
    }
    file.sync()?;
    Ok(file)
}

/// A batch whose group takes exactly `group_bytes` in the file, a multiple of 4096. Its data is no record set: the
/// journal does not look.
///
/// # Panics
///
/// When `group_bytes` has no room for a frame around it.
pub fn batch_of_group(group_bytes: usize) -> Batch {
    let data = crate::payload::filler(0, group_bytes - AROUND_BYTES);
    let decoded_bytes = u32::try_from(data.len()).expect("a group has at most 4 MiB");
    Batch { codec: Codec::None, record_count: 1, decoded_bytes, crc32: crc32fast::hash(&data), data: data.into() }
}

#[cfg(test)]
mod tests {
    use tillroll_engine::disk::real::RealDisk;

    use super::*;
    use crate::nowhere::Nowhere;

    #[test]
    fn a_group_has_the_stated_size_and_files_are_used_again() {
        let nowhere: Arc<dyn Disk> = Arc::new(Nowhere);
        let mut road = Road::new(&nowhere).expect("nothing can fail");
        let batch = batch_of_group(1 << 20);
        // More than all files hold together.
        let mut ends = Vec::new();
        for _ in 0..(FILE_BYTES * u64::from(FILES + 1)) >> 20 {
            ends.push(road.write(&batch).tip.at);
        }
        assert_eq!(ends[1] - ends[0], 1 << 20);
        assert!(ends.iter().all(|end| *end <= FILE_BYTES));
    }

    #[test]
    fn a_group_on_a_real_disk_becomes_durable() {
        let dir = tempfile::tempdir().expect("a place for files");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).expect("a directory"));
        let mut road = Road::new(&disk).expect("a journal");
        assert_eq!(road.append(&batch_of_group(4_096)).tip.lsn, Lsn(1));
        assert_eq!(road.append(&batch_of_group(64 << 10)).tip.lsn, Lsn(2));
    }
}
