//! The disk of the machine: plain system calls below one directory.
//!
//! Journal files are written past the page cache where the file system can do that with blocks of 4096 bytes or
//! less. Where it cannot, the handle is an ordinary one and says so through [`DiskFile::is_direct`]; durability rests
//! on [`DiskFile::sync`] either way. What must stay true: no path leaves the directory, a call that a signal cut short
//! is made again, and every other failure reaches the caller as it is.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustix::fs::{AtFlags, CWD, FallocateFlags, OFlags, StatxFlags};

use super::{Advice, DirLock, Disk, DiskFile, Entry, Mode, Space, aligned::AlignedBuf};
use crate::limits::ALIGN;

/// A directory of the real file system.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    /// Whether direct writes work here, for file systems that do not tell; found out at most once.
    probed: OnceLock<bool>,
}

impl RealDisk {
    /// Takes `dir` as the data directory, and makes it durably when it is missing, with what is missing above it.
    ///
    /// # Errors
    ///
    /// `NotADirectory` when something else has the name, and what else the system says.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let root = std::path::absolute(dir)?;
        let missing: Vec<&Path> = root.ancestors().take_while(|place| !place.exists()).collect();
        std::fs::create_dir_all(&root)?;
        for parent in missing.iter().filter_map(|place| place.parent()) {
            sync_place(parent)?;
        }
        if !std::fs::metadata(&root)?.is_dir() {
            let text = format!("the data directory's name is taken by a file path={}", root.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
        }
        Ok(Self { root, probed: OnceLock::new() })
    }

    fn place(&self, path: &str) -> io::Result<PathBuf> {
        check_path(path)?;
        Ok(self.root.join(path))
    }

    /// As `place`, for names that stand for a file or a directory below the root.
    fn named(&self, path: &str) -> io::Result<PathBuf> {
        if path.is_empty() { Err(refused(path, "the name is empty")) } else { self.place(path) }
    }

    fn can_direct(&self, file: &File) -> bool {
        // Asking the open file, not the path: the path may be another file by now.
        let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
        match found {
            Ok(stat) if stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
                let fits = |align: u32| align != 0 && align as usize <= ALIGN;
                fits(stat.stx_dio_mem_align) && fits(stat.stx_dio_offset_align)
            }
            _ => *self.probed.get_or_init(|| probe_direct(&self.root)),
        }
    }
}

/// Refuses paths that leave the directory or have two spellings: `..`, `.`, empty parts, a leading `/`.
pub(crate) fn check_path(path: &str) -> io::Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(refused(path, "every part needs a name of its own and none may be . or .."));
    }
    Ok(())
}

/// The directory part of a path and the last part.
pub(crate) fn split_path(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Refuses a rename that is not within one directory: only such a one is a single change of a single directory.
pub(crate) fn check_rename(from: &str, to: &str) -> io::Result<()> {
    if split_path(from).0 == split_path(to).0 { Ok(()) } else { Err(refused(to, "a rename stays in its directory")) }
}

fn refused(path: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("path refused: {why} path={path:?}"))
}

/// Repeats a call for as long as signals interrupt it, as every system call asks of its caller: each round more has
/// cost somebody a signal.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// A quota is a full disk to its owner: one kind for both.
fn full_by_quota(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::QuotaExceeded { io::Error::new(io::ErrorKind::StorageFull, error) } else { error }
}

fn sync_place(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Tries one direct write into a file without a name, which leaves nothing behind whatever happens.
fn probe_direct(root: &Path) -> bool {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(CWD, root, flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR) else {
        return false;
    };
    let mut block = AlignedBuf::with_capacity(ALIGN);
    block.grow_zeroed(ALIGN);
    matches!(retry(|| File::from(file.try_clone()?).write_at(block.as_slice(), 0)), Ok(ALIGN))
}

fn options(mode: Mode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    match mode {
        Mode::Read => {}
        Mode::Write => {
            options.write(true);
        }
        Mode::Create => {
            options.write(true).create_new(true);
        }
    }
    options
}

impl Disk for RealDisk {
    fn open(&self, path: &str, mode: Mode, direct: bool) -> io::Result<Arc<dyn DiskFile>> {
        let place = self.named(path)?;
        let plain = retry(|| options(mode).open(&place)).map_err(full_by_quota)?;
        if plain.metadata()?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, format!("not a file path={path}")));
        }
        let direct = if direct && self.can_direct(&plain) {
            // Created above: the second handle finds it.
            let second = if mode == Mode::Create { Mode::Write } else { mode };
            let flags = OFlags::DIRECT.bits().cast_signed();
            retry(|| options(second).custom_flags(flags).open(&place)).ok()
        } else {
            None
        };
        Ok(Arc::new(RealFile { path: path.to_owned(), plain, direct }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for found in std::fs::read_dir(self.place(dir)?)? {
            let found = found?;
            let stat = match found.metadata() {
                Ok(stat) => stat,
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let name = found.file_name().into_string().map_err(|name| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("name is not utf-8 dir={dir:?} name={}", name.display()),
                )
            })?;
            let bytes = if stat.is_dir() { 0 } else { stat.len() };
            entries.push(Entry { name, is_dir: stat.is_dir(), bytes });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let place = self.named(dir)?;
        match std::fs::create_dir(&place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && place.is_dir() => Ok(()),
            outcome => outcome.map_err(full_by_quota),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (source, target) = (self.named(from)?, self.named(to)?);
        check_rename(from, to)?;
        std::fs::rename(source, target)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.named(path)?)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        std::fs::remove_dir(self.named(dir)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_place(&self.place(dir)?)
    }

    fn lock(&self) -> io::Result<Box<dyn DirLock>> {
        // The directory itself: a file in it could be removed, and a second process would lock another one. And nothing
        // is put into a directory that turns out to be somebody else's.
        let file = File::open(&self.root)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _held: file })),
            Err(TryLockError::WouldBlock) => {
                let text = format!("the data directory is in use by another process path={}", self.root.display());
                Err(io::Error::new(io::ErrorKind::WouldBlock, text))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        let in_bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        let files = (stat.f_files > 0).then_some(stat.f_favail);
        Ok(Space { free: in_bytes(stat.f_bavail), total: in_bytes(stat.f_blocks), files })
    }

    fn real_path(&self, path: &str) -> Option<PathBuf> {
        self.place(path).ok()
    }
}

/// Locks go with the open file: closed by drop, or by the kernel when the process ends in whatever way.
#[derive(Debug)]
struct RealLock {
    _held: File,
}

impl DirLock for RealLock {}

/// One open file, twice open when it is written past the page cache.
///
/// Reads whose buffer, length and position are aligned go past the cache as well. All others go through `plain`, which
/// is never written on such a file: the kernel drops the cached pages of what a direct write covers, so `plain` reads
/// what `direct` wrote.
#[derive(Debug)]
struct RealFile {
    path: String,
    plain: File,
    direct: Option<File>,
}

impl RealFile {
    /// The handle that writes go through, and with them the errors of their sync.
    fn writer(&self) -> &File {
        self.direct.as_ref().unwrap_or(&self.plain)
    }
}

fn is_aligned(buffer: &[u8], at: u64) -> bool {
    let address = buffer.as_ptr().align_offset(ALIGN);
    address == 0 && buffer.len().is_multiple_of(ALIGN) && at.is_multiple_of(ALIGN as u64)
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let source = match &self.direct {
            Some(direct) if is_aligned(buffer, at) => direct,
            _ => &self.plain,
        };
        retry(|| source.read_at(buffer, at))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        debug_assert!(
            self.direct.is_none() || is_aligned(bytes, at),
            "a direct write is aligned: path={} at={at} bytes={}",
            self.path,
            bytes.len()
        );
        retry(|| self.writer().write_at(bytes, at)).map_err(full_by_quota)
    }

    fn sync(&self) -> io::Result<()> {
        retry(|| self.writer().sync_data())
    }

    fn allocate(&self, at: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let before = self.bytes()?;
        let outcome = retry(|| Ok(rustix::fs::fallocate(self.writer(), FallocateFlags::empty(), at, bytes)?));
        if outcome.is_err() && self.bytes()? > before {
            // A file system that runs full half way (ext4 does) keeps what it had taken, the last of the disk, and
            // the longer file. The answer is "no": nothing may stay behind.
            self.set_bytes(before)?;
        }
        outcome.map_err(full_by_quota)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.plain.metadata()?.len())
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        retry(|| self.writer().set_len(bytes)).map_err(full_by_quota)
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        let advice = match advice {
            Advice::DontNeed => rustix::fs::Advice::DontNeed,
            Advice::Random => rustix::fs::Advice::Random,
        };
        // The whole file. Read-ahead belongs to the handle, and only `plain` has any.
        Ok(rustix::fs::fadvise(&self.plain, 0, None, advice)?)
    }

    fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    fn path(&self) -> &str {
        &self.path
    }
}

#[cfg(test)]
mod tests;
