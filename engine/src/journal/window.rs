//! A part of a journal file in memory, moved along as recovery reads: files are large, and a start must not need more
//! memory than the run behind it.
//!
//! What is read begins at a group, so that a whole group stands in one piece; the window grows for a group that is
//! larger than it is, and a group is as large as a frame may be at most.

use std::{io, sync::Arc};

use crate::{
    disk::{self, DiskFile, aligned::AlignedBuf},
    limits::ALIGN,
};

/// Bytes that are read together.
const WINDOW_BYTES: usize = 4 << 20;

/// A part of one journal file; what is missing at the file's end reads as zeros.
pub(super) struct Window {
    file: Option<Arc<dyn DiskFile>>,
    file_bytes: u64,
    buffer: AlignedBuf,
    /// Where in the file the buffer begins; a multiple of 4096.
    start: u64,
}

impl Window {
    /// Over no file yet; files have `file_bytes`.
    pub(super) fn new(file_bytes: u64) -> Self {
        let bytes = usize::try_from(file_bytes).unwrap_or(usize::MAX).min(WINDOW_BYTES);
        Self { file: None, file_bytes, buffer: AlignedBuf::with_capacity(bytes), start: 0 }
    }

    /// Goes to another file.
    pub(super) fn open(&mut self, file: Arc<dyn DiskFile>) {
        self.file = Some(file);
        self.start = 0;
        self.buffer.clear();
    }

    /// Whether there is a file.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Where the file ends.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The bytes from `at` on: `count` of them, fewer where the file ends.
    pub(super) fn bytes(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let end = self.file_bytes.min(at.saturating_add(count as u64));
        if at >= end {
            return Ok(&[]);
        }
        if at < self.start || end > self.start + self.buffer.len() as u64 {
            self.fill(at - at % ALIGN as u64, end)?;
        }
        let from = position(at - self.start);
        Ok(&self.buffer.as_slice()[from..position(end - self.start)])
    }

    /// Reads from `start` on, to `end` at least.
    fn fill(&mut self, start: u64, end: u64) -> io::Result<()> {
        let needed = position(end - start).next_multiple_of(ALIGN);
        if needed > self.buffer.capacity() {
            self.buffer = AlignedBuf::with_capacity(needed);
        }
        self.buffer.clear();
        self.buffer.fill_to(self.buffer.capacity().min(position(self.file_bytes - start)));
        self.start = start;
        let Some(file) = &self.file else { return Err(io::ErrorKind::NotFound.into()) };
        match disk::read_full_at(&**file, self.buffer.as_mut_slice(), start) {
            Ok(count) => self.buffer.as_mut_slice()[count..].fill(0),
            Err(error) => {
                self.buffer.clear();
                return Err(error);
            }
        }
        Ok(())
    }
}

fn position(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a journal file fits into memory")
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use crate::disk::{Mode, sim::SimDisk};

    #[test]
    fn any_part_of_a_file_is_given_whatever_was_read_before() {
        let bytes: Vec<u8> = (0..6_u32 << 18).flat_map(u32::to_le_bytes).collect();
        let disk = SimDisk::new(1);
        disk.write_file("a", &bytes);
        disk.set_short_reads(3);
        // Two blocks longer than what is there.
        let mut window = Window::new(bytes.len() as u64 + 8_192);
        window.open(disk.handle().open("a", Mode::Read, true).expect("it is there"));
        for (at, count) in [(0, 160), (5_000, 9 << 19), (4_096, 10), (bytes.len() - 4, 4), (3, 5 << 20), (70, 70)] {
            assert_eq!(window.bytes(at as u64, count).expect("it reads"), &bytes[at..at + count], "{at} {count}");
        }
        let behind = window.bytes(bytes.len() as u64, 1 << 20).expect("it reads");
        assert!(behind.len() == 8_192 && behind.iter().all(|byte| *byte == 0));
        assert_eq!(window.bytes(1 << 40, 1).expect("it reads"), &[] as &[u8]);
    }
}
