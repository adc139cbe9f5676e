//! The knobs of one engine. Everything that is part of the contract stands in [`crate::limits`] instead.

/// Plain data; components (disk, clock) are handed in beside it.
///
/// The defaults are safe for money and sized for a machine of two cores. Tests make files small.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Journal files at most. The last two are kept for cursor commits, members and deletes.
    pub journal_files_max: u32,
    /// Bytes of one journal file, a multiple of 4096. A frame may be at most this less 8192.
    pub journal_file_bytes: u64,
    /// A group has at most so many bytes in the journal; a larger frame is a group alone.
    pub group_bytes: usize,
    /// Appends admitted and not yet answered, in bytes.
    pub in_flight_bytes: u64,
    /// Appends admitted and not yet answered.
    pub in_flight_appends: usize,
    /// Answers to appends that are remembered for retries, of all producers together, in bytes. Above it only producers
    /// with less than their share go on; above twice as much none does.
    pub answers_bytes: u64,
    /// Published batches in memory, counted by the capacity of the buffers that they pin.
    pub tail_bytes: u64,
    /// Raw bytes at which a block closes.
    pub block_bytes: usize,
    /// A checkpoint starts this long after a change, in microseconds.
    pub checkpoint_after_us: u64,
    /// A segment is rolled at this age once it holds a 128th of its size, in microseconds.
    pub segment_age_us: i64,
    /// Free space below which appends are refused, tables and unflushed bytes apart.
    pub space_floor_bytes: u64,
    /// Bytes set aside in `ballast`, given up at the first real lack of space.
    pub ballast_bytes: u64,
    /// Checkpoints run only when the journal is full or at a clean stop. For measuring restarts.
    pub hold_checkpoints: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            journal_files_max: 16,
            journal_file_bytes: 64 << 20,
            group_bytes: 2 << 20,
            in_flight_bytes: 64 << 20,
            in_flight_appends: 16_384,
            answers_bytes: 64 << 20,
            tail_bytes: 256 << 20,
            block_bytes: 256 << 10,
            checkpoint_after_us: 30_000_000,
            segment_age_us: 24 * 60 * 60 * 1_000_000,
            space_floor_bytes: 64 << 20,
            ballast_bytes: 64 << 20,
            hold_checkpoints: false,
        }
    }
}

impl Settings {
    /// The largest frame that the journal files can hold.
    pub fn frame_bytes_max(&self) -> usize {
        let fits = usize::try_from(self.journal_file_bytes).unwrap_or(usize::MAX).saturating_sub(8_192);
        fits.min(crate::limits::FRAME_BYTES_MAX)
    }
}
