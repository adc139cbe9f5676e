//! A disk that takes everything and keeps nothing, so that what stands in front of it can be measured alone.

use std::{io, path::PathBuf, sync::Arc};

use tillroll_engine::disk::{Advice, DirLock, Disk, DiskFile, Entry, Mode, Space};

/// The disk.
#[derive(Clone, Copy, Debug)]
pub struct Nowhere;

/// A file of it: every write succeeds at once, nothing can be read.
#[derive(Debug)]
struct Hole {
    path: String,
}

fn kept_nothing<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Disk for Nowhere {
    fn open(&self, path: &str, _: Mode, _: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(Hole { path: path.to_owned() }))
    }

    fn list(&self, _: &str) -> io::Result<Vec<Entry>> {
        Ok(Vec::new())
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn DirLock>> {
        kept_nothing()
    }

    fn space(&self) -> io::Result<Space> {
        kept_nothing()
    }

    fn real_path(&self, _: &str) -> Option<PathBuf> {
        None
    }
}

impl DiskFile for Hole {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        kept_nothing()
    }

    fn write_at(&self, bytes: &[u8], _: u64) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        kept_nothing()
    }

    fn set_bytes(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn advise(&self, _: Advice) -> io::Result<()> {
        Ok(())
    }

    fn is_direct(&self) -> bool {
        false
    }

    fn path(&self) -> &str {
        &self.path
    }
}
