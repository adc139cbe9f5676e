//! The simulated disk behind the seam: each handle belongs to a generation and does nothing once that is over.

use std::{io, path::PathBuf, sync::Arc};

use parking_lot::Mutex;

use super::{
    CallKind,
    names::NodeId,
    state::{State, Write},
};
use crate::disk::{Advice, DirLock, Disk, DiskFile, Entry, Mode, Space};

/// One process's view of the disk.
pub(super) struct SimHandle {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) generation: u64,
}

impl SimHandle {
    /// A changing call on names, which happens whole or not at all.
    fn change<T>(&self, kind: CallKind, path: &str, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        let turn = state.arrive(self.generation, kind, path, 0, 0)?;
        state.perform(turn, act)
    }

    /// A call that changes nothing.
    fn look<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        state.check_alive(self.generation)?;
        act(&mut state)
    }
}

impl Disk for SimHandle {
    fn open(&self, path: &str, mode: Mode, direct: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.look(|state| state.check_descriptor())?;
        let node = if mode == Mode::Create {
            self.change(CallKind::Create, path, |state| {
                state.check_room_for_name()?;
                state.image.create(path)
            })?
        } else {
            self.look(|state| state.image.file_id(path))?
        };
        let direct = self.look(|state| {
            state.open_file(node);
            Ok(direct && state.direct_possible)
        })?;
        Ok(Arc::new(SimFile {
            state: self.state.clone(),
            generation: self.generation,
            node,
            path: path.to_owned(),
            writes: mode != Mode::Read,
            direct,
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.look(|state| state.image.list(dir))
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.change(CallKind::CreateDir, dir, |state| {
            if !state.image.has_dir(dir) {
                state.check_room_for_name()?;
            }
            state.image.create_dir(dir)
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(CallKind::Rename, &format!("{from} -> {to}"), |state| state.image.rename(from, to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.change(CallKind::Remove, path, |state| state.image.remove(path))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.change(CallKind::RemoveDir, dir, |state| state.image.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        // The directory is opened for it.
        self.look(|state| state.check_descriptor())?;
        self.change(CallKind::SyncDir, dir, |state| state.sync_dir(dir))
    }

    fn lock(&self) -> io::Result<Box<dyn DirLock>> {
        let number = self.look(State::take_lock)?;
        Ok(Box::new(SimLock { state: self.state.clone(), number }))
    }

    fn space(&self) -> io::Result<Space> {
        self.look(|state| Ok(state.space()))
    }

    fn real_path(&self, _path: &str) -> Option<PathBuf> {
        None
    }
}

/// A lock by its number, so that one that a crash has released cannot release its successor.
struct SimLock {
    state: Arc<Mutex<State>>,
    number: u64,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.state.lock().release_lock(self.number);
    }
}

/// An open file of one generation.
struct SimFile {
    state: Arc<Mutex<State>>,
    generation: u64,
    node: NodeId,
    path: String,
    writes: bool,
    direct: bool,
}

impl SimFile {
    fn check_writes(&self) -> io::Result<()> {
        if self.writes {
            return Ok(());
        }
        let text = format!("the file is open for reading only path={}", self.path);
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.check_alive(self.generation)?;
        state.read(self.node, buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.check_alive(self.generation)?;
        self.check_writes()?;
        let write = Write { node: self.node, bytes, at, direct: self.direct };
        state.check_write(write, &self.path);
        let turn = state.arrive(self.generation, CallKind::Write, &self.path, at, bytes.len() as u64)?;
        state.write(turn, write)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let turn = state.arrive(self.generation, CallKind::Sync, &self.path, 0, 0)?;
        state.sync(turn, self.node)
    }

    fn allocate(&self, at: u64, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_alive(self.generation)?;
        self.check_writes()?;
        let turn = state.arrive(self.generation, CallKind::Allocate, &self.path, at, bytes)?;
        state.perform(turn, |state| state.allocate(self.node, at, at + bytes))
    }

    fn bytes(&self) -> io::Result<u64> {
        let state = self.state.lock();
        state.check_alive(self.generation)?;
        Ok(state.image.file(self.node).cached().bytes)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_alive(self.generation)?;
        self.check_writes()?;
        let before = state.image.file(self.node).cached().bytes;
        state.check_seal(self.node, bytes.min(before), before, &self.path);
        let turn = state.arrive(self.generation, CallKind::SetBytes, &self.path, bytes, 0)?;
        state.perform(turn, |state| {
            state.image.file_mut(self.node).set_bytes(bytes);
            Ok(())
        })
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_alive(self.generation)?;
        if advice == Advice::DontNeed {
            state.image.file_mut(self.node).forget_lost();
        }
        Ok(())
    }

    fn is_direct(&self) -> bool {
        self.direct
    }

    fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.state.lock().close_file(self.generation, self.node);
    }
}
