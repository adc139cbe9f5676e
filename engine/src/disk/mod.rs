//! The seam to the disk: everything that touches a file goes through [`Disk`] and [`DiskFile`].
//!
//! Paths are relative to the data directory, with `/` between parts. Calls may be short, as the operating system's
//! are; [`read_full_at`] and [`write_all_at`] finish them. A *changing call* is one that a crash can undo: write,
//! allocate, set_len, sync, create, rename, remove, create_dir, sync_dir. The simulated disk counts those.
//!
//! Names are durable only after [`Disk::sync_dir`] of their directory, contents only after [`DiskFile::sync`].

use std::{io, sync::Arc};

pub mod aligned;
pub mod real;
#[cfg(feature = "sim")]
pub mod sim;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not exist yet, for reading and writing.
    Create,
}

/// What the kernel should know about how a file will be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Forget the cached pages. The next read comes from the disk itself.
    DontNeed,
    /// No read-ahead: never look past what was asked for.
    Random,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The last part of the path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes; 0 for directories.
    pub bytes: u64,
}

/// Room on the file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for this user.
    pub free: u64,
    /// Free and used together.
    pub total: u64,
    /// Files that may still be made; none when the file system has no limit.
    pub files: Option<u64>,
}

/// Held for as long as the directory is this process's.
pub trait DirLock: Send + Sync {}

/// A data directory.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file. `direct` asks to bypass the page cache for this handle; whether that was possible says
    /// [`DiskFile::is_direct`]. A file that is written through a direct handle is never written through another.
    ///
    /// # Errors
    ///
    /// `NotFound`, `AlreadyExists` (for [`Mode::Create`]), `StorageFull`, and what else the system says.
    fn open(&self, path: &str, mode: Mode, direct: bool) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in a directory, sorted. `NotFound` when there is none.
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>>;

    /// Makes one directory; its parent must exist. One that exists already is fine.
    fn create_dir(&self, dir: &str) -> io::Result<()>;

    /// Renames a file within its directory, replacing what had the name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Unlinks a file.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes the names in a directory durable. `""` is the data directory itself. It is opened for that, which may lack
    /// a descriptor: see [`lacks_descriptor`].
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Takes the data directory for this process. `WouldBlock` when another has it.
    fn lock(&self) -> io::Result<Box<dyn DirLock>>;

    /// Room left.
    fn space(&self) -> io::Result<Space>;

    /// The file's place for a memory map, when this disk has real files.
    fn real_path(&self, path: &str) -> Option<std::path::PathBuf>;
}

/// An open file. All positions in bytes.
pub trait DiskFile: Send + Sync {
    /// Reads into `buffer` from `at`; may be short; 0 only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes from `bytes` at `at`; may be short. On a direct handle address, length and position are multiples of
    /// 4096.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Makes the contents and the length durable, not the name.
    fn sync(&self) -> io::Result<()>;

    /// Reserves space for `at..at + bytes`, extending the file when it is shorter; new bytes read as zero.
    /// `StorageFull` here is an answer, not damage.
    fn allocate(&self, at: u64, bytes: u64) -> io::Result<()>;

    /// The length in bytes.
    fn bytes(&self) -> io::Result<u64>;

    /// Cuts or extends (with zeros) to `bytes`.
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;

    /// Tells the kernel how the file will be used. Best effort.
    fn advise(&self, advice: Advice) -> io::Result<()>;

    /// Whether this handle bypasses the page cache.
    fn is_direct(&self) -> bool;

    /// The path that it was opened by, for error messages.
    fn path(&self) -> &str;
}

/// Whether a call that creates, opens or allocates failed for want of something that comes back: bytes, inodes, a
/// quota, descriptors, memory. Nothing is lost then: the call is refused, tried again, and heals. Never asked of a
/// write or a sync, whose failure is damage whatever it was for.
pub fn is_lack(error: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, QuotaExceeded, StorageFull, WouldBlock};
    matches!(error.kind(), StorageFull | QuotaExceeded | OutOfMemory | WouldBlock) || lacks_descriptor(error)
}

/// Whether there was no descriptor to be had. Only a call that opens something fails so: of a directory that is to be
/// synced it says that no sync was tried.
pub fn lacks_descriptor(error: &io::Error) -> bool {
    let descriptors = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(rustix::io::Errno::raw_os_error);
    error.raw_os_error().is_some_and(|number| descriptors.contains(&number))
}

/// What a call that may lack something brought; the inner error is a lack.
pub fn or_lack<T>(result: io::Result<T>) -> io::Result<io::Result<T>> {
    match result {
        Err(error) if is_lack(&error) => Ok(Err(error)),
        other => other.map(Ok),
    }
}

/// Reads until `buffer` is full or the file ends, and returns how much was read.
pub fn read_full_at(file: &dyn DiskFile, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes all of `bytes`. A short write is continued where it stopped; on a direct handle it can only have stopped
/// at a multiple of the file system's block, and the rest is tried from the last multiple of 4096 before it.
pub fn write_all_at(file: &dyn DiskFile, bytes: &[u8], at: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&bytes[written..], at + written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) if file.is_direct() && written + count < bytes.len() => {
                let whole = count - count % crate::limits::ALIGN;
                if whole == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                written += whole;
            }
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens a file so that what is read next is what the disk holds, not what the page cache remembers: sync, drop the
/// cached pages, read.
///
/// A process that was killed may have left written but never synced pages behind. Read back from the cache they look
/// durable; shown to anyone they would be a promise that the next power cut breaks.
pub fn open_cold(disk: &dyn Disk, path: &str, mode: Mode, direct: bool) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(path, mode, direct)?;
    file.sync()?;
    file.advise(Advice::DontNeed)?;
    Ok(file)
}
