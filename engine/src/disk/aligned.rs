//! Buffers that direct writes accept: address and capacity at multiples of 4096, taken from a bounded pool.
//!
//! A buffer is shared by the journal write and the tail (`Bytes` slices of it), and goes back to the pool when the
//! last slice is gone.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::limits::ALIGN;

/// Bytes at an aligned address. The capacity is fixed at creation.
#[derive(Debug)]
pub struct AlignedBuf {
    store: Vec<u8>,
    start: usize,
    len: usize,
    home: Option<Arc<Shelf>>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// In the order in which they came back: few enough to look through.
    free: Mutex<VecDeque<Vec<u8>>>,
    bytes_max: usize,
}

/// Where buffers come from and go back to.
#[derive(Clone, Debug)]
pub struct AlignedPool {
    shelf: Arc<Shelf>,
}

impl AlignedPool {
    /// A pool that keeps at most `bytes_max` of unused buffers.
    pub fn new(bytes_max: usize) -> Self {
        Self { shelf: Arc::new(Shelf { free: Mutex::default(), bytes_max }) }
    }

    /// Gives unused buffers back to the system.
    pub fn release(&self) {
        self.shelf.free.lock().clear();
    }

    /// An empty buffer with room for at least `bytes`. Its old contents are not cleared: whoever takes it writes
    /// every byte that it hands on.
    pub fn take(&self, bytes: usize) -> AlignedBuf {
        let capacity = size_class(bytes);
        let reused = {
            let mut free = self.shelf.free.lock();
            // The one that came back last, since it is the warmest; up to twice as large as it needs to be.
            let fits = capacity + ALIGN..=2 * capacity + ALIGN;
            let found = free.iter().rposition(|store| fits.contains(&store.len()));
            found.and_then(|at| free.remove(at))
        };
        let store = reused.unwrap_or_else(|| vec![0; capacity + ALIGN]);
        AlignedBuf::over(store, Some(self.shelf.clone()))
    }
}

/// Few distinct sizes, so that buffers fit again: powers of two from 8 KiB, with a step half way between.
fn size_class(bytes: usize) -> usize {
    let power = bytes.max(8_192).next_power_of_two();
    let three_quarters = power / 4 * 3;
    if bytes <= three_quarters && three_quarters.is_multiple_of(ALIGN) { three_quarters } else { power }
}

impl AlignedBuf {
    /// A buffer of its own, outside any pool.
    pub fn with_capacity(bytes: usize) -> Self {
        let capacity = bytes.max(ALIGN).next_multiple_of(ALIGN);
        Self::over(vec![0; capacity + ALIGN], None)
    }

    fn over(store: Vec<u8>, home: Option<Arc<Shelf>>) -> Self {
        let start = store.as_ptr().align_offset(ALIGN);
        assert!(start < ALIGN, "a byte pointer can always be aligned");
        Self { store, start, len: 0, home }
    }

    /// How many bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.store.len() - ALIGN
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `bytes` at the end.
    ///
    /// # Panics
    ///
    /// When they do not fit: sizes are computed before a buffer is taken.
    pub fn push(&mut self, bytes: &[u8]) {
        let at = self.start + self.len;
        assert!(self.len + bytes.len() <= self.capacity(), "buffer sized too small");
        self.store[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Adds zeros until the length is a multiple of `multiple`.
    pub fn pad(&mut self, multiple: usize) {
        self.grow_zeroed(self.len.next_multiple_of(multiple) - self.len);
    }

    /// Adds `count` zeros.
    ///
    /// # Panics
    ///
    /// As [`AlignedBuf::push`].
    pub fn grow_zeroed(&mut self, count: usize) {
        assert!(self.len + count <= self.capacity(), "buffer sized too small");
        let at = self.start + self.len;
        self.store[at..at + count].fill(0);
        self.len += count;
    }

    /// Sets the length, for reading into; the bytes are whatever they were.
    ///
    /// # Panics
    ///
    /// As [`AlignedBuf::push`].
    pub fn fill_to(&mut self, len: usize) {
        assert!(len <= self.capacity(), "buffer sized too small");
        self.len = len;
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// What it holds.
    pub fn as_slice(&self) -> &[u8] {
        &self.store[self.start..self.start + self.len]
    }

    /// What it holds, to be patched.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.store[self.start..self.start + self.len]
    }

    /// Shares it; slices of the result pin the whole buffer.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        let Some(home) = self.home.take() else { return };
        let store = std::mem::take(&mut self.store);
        let mut free = home.free.lock();
        free.push_back(store);
        // Those that nobody wanted for the longest time make room.
        let mut kept: usize = free.iter().map(Vec::len).sum();
        while kept > home.bytes_max {
            kept -= free.pop_front().map_or(kept, |store| store.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_come_back() {
        let pool = AlignedPool::new(1 << 20);
        let mut first = pool.take(5_000);
        first.push(b"abc");
        first.pad(ALIGN);
        assert!(first.as_slice().as_ptr().align_offset(ALIGN) == 0);
        assert_eq!(first.len(), ALIGN);
        let shared = first.freeze();
        let slice = shared.slice(0..3);
        drop(shared);
        assert_eq!(pool.shelf.free.lock().len(), 0, "a slice pins the buffer");
        drop(slice);
        assert_eq!(pool.shelf.free.lock().len(), 1);
        assert!(pool.take(4_000).capacity() >= 4_000);
        assert_eq!(pool.shelf.free.lock().len(), 1, "the reused buffer came back once more");
    }

    #[test]
    fn a_full_pool_lets_the_oldest_buffers_go() {
        let pool = AlignedPool::new(40_000);
        let (small, large) = (pool.take(8_192), pool.take(16_384));
        drop((small, large));
        drop(pool.take(24_000));
        let kept: Vec<usize> = pool.shelf.free.lock().iter().map(Vec::len).collect();
        assert_eq!(kept, [24_576 + ALIGN]);
    }

    #[test]
    fn a_buffer_is_used_again_for_up_to_half_of_its_size() {
        let pool = AlignedPool::new(1 << 20);
        drop(pool.take(64 << 10));
        assert_eq!(pool.take(32 << 10).capacity(), 64 << 10);
        assert_eq!(pool.take(16 << 10).capacity(), 16 << 10);
    }
}
