//! Segments: where records are kept. Per partition a row of append-only files of blocks, each immutable once sealed.
//!
//! ```text
//! data/<topic>/<partition>/<base>-<generation>.log     file header │ block │ block │ …  │ room allocated ahead
//! data/<topic>/<partition>/<base>-<generation>.index   file header │ head │ entry per block │ zeros
//!
//! block, at a multiple of 4096:   header 384 │ records │ runs │ zeros
//! ```
//!
//! Comes in, from `flush`: the batches of one partition in order. Goes out, to `read`: blocks that proved themselves.
//! What must stay true:
//!
//! - A block is never written twice once a checkpoint covers it; where the data of an active segment ends is the
//!   tables' word, never the file's length.
//! - Blocks chain: `prev_crc` is the header CRC of the block before (of the file for the first), base is the end
//!   before, the incarnation does not fall. So what an older run left behind the end is told from what follows.
//! - Every byte of a block is covered by its header's CRC or its body's, every byte of an index by one of its two.
//! - The index is a hint: whatever it says, the block found says who it is.

pub mod name;
pub mod format;
pub mod index;
pub mod block;
pub mod map;
pub mod reader;
pub mod shelf;

use std::sync::Arc;

pub use block::{Block, BuildFault, Builder, Built, Origin, Place, Pushed};
pub use format::{BlockFault, BlockHeader, Run};
pub use index::{ActiveIndex, Entry, Found, Index, IndexFault};
pub use name::{Name, Part};
pub use reader::{Extent, FIRST_BLOCK, Headers, Reach, Reader, SegmentFault};

use crate::{
    disk::{Disk, Mode},
    id::SegmentId,
};

/// Opens the index of a sealed segment: through a map where the disk has real files, by reads elsewhere.
///
/// # Errors
///
/// [`IndexFault`]: the index is to be made anew with [`Reader::index`].
pub fn open_index(disk: &dyn Disk, path: &str, segment: SegmentId) -> Result<Arc<dyn Index>, IndexFault> {
    let read = |source| IndexFault::Read { path: path.to_owned(), source };
    let file = disk.open(path, Mode::Read, false).map_err(read)?;
    match map::MapIndex::open(disk, &*file, segment)? {
        Some(mapped) => Ok(Arc::new(mapped)),
        None => Ok(Arc::new(index::PreadIndex::open(file, segment)?)),
    }
}
