//! Reads the groups behind a checkpoint again, as the rest of the engine gets them from the group write.
//!
//! Comes in: what [`scan`](super::scan::scan) found. Goes out: its groups in order, each in a buffer of its own.

use std::{collections::BTreeMap, io};

use crate::{
    disk::aligned::AlignedPool,
    header::FILE_HEADER_BYTES,
    journal::{
        Frame, Group, Tip,
        frame::FrameHeader,
        op::{self, OpFault},
        pool::{Slot, Used},
        scan::{Found, ScanFault, Source, WholeGroup},
        window::Window,
    },
};

/// Reads the groups behind a checkpoint again, in order.
pub struct Replay<'a> {
    source: Source<'a>,
    files: std::vec::IntoIter<Used>,
    /// Files to their slot, to name them in errors.
    slots: BTreeMap<u64, Slot>,
    window: Window,
    tip: Tip,
    last: Tip,
    buffers: AlignedPool,
}

impl<'a> Replay<'a> {
    /// Replays what the scan found from `start` to its tip.
    pub fn new(source: Source<'a>, start: Tip, found: &Found, buffers: AlignedPool) -> Self {
        let slots = found.chain.iter().map(|file| (file.file_no, file.slot)).collect();
        let window = Window::new(if found.chain.is_empty() { 0 } else { source.file_bytes });
        Self { source, files: found.chain.clone().into_iter(), slots, window, tip: start, last: found.tip, buffers }
    }

    /// The next group; none behind the tip.
    pub fn next_group(&mut self) -> Result<Option<Group>, ScanFault> {
        while self.tip.lsn < self.last.lsn {
            if self.window.is_open() {
                let group = self.source.group(&mut self.window, self.tip).map_err(self.io())?;
                if let Ok(group) = group {
                    return self.take(&group).map(Some);
                }
            }
            let Some(file) = self.files.next() else { break };
            self.source.load(file.slot, &mut self.window)?;
            if file.file_no != self.tip.file_no {
                self.tip.file_no = file.file_no;
                self.tip.at = FILE_HEADER_BYTES as u64;
            }
        }
        Ok(None)
    }

    /// The path of the file that is read.
    fn file(&self) -> String {
        self.slots.get(&self.tip.file_no).map_or_else(String::new, |slot| slot.path())
    }

    fn io(&self) -> impl FnOnce(io::Error) -> ScanFault + use<> {
        let file = self.file();
        move |source| ScanFault::Io { action: "reading", file, source }
    }

    /// Copies a group into a buffer of its own, so that the tail does not pin the window.
    fn take(&mut self, group: &WholeGroup) -> Result<Group, ScanFault> {
        let (file, failed) = (self.file(), self.io());
        let bytes = self.window.bytes(self.tip.at, group.bytes).map_err(failed)?;
        let mut own = self.buffers.take(group.bytes);
        own.push(bytes);
        let pinned_bytes = own.capacity();
        let shared = own.freeze();
        let mut frames = Vec::with_capacity(group.headers.len());
        for (header, body) in &group.headers {
            let body = shared.slice(body.clone());
            let fault = |fault| ScanFault::Body { file: file.clone(), lsn: header.lsn, fault };
            frames.push(frame(header, &body).map_err(fault)?);
        }
        let position = frames.last().map_or(self.tip.position, |last| last.position + last.record_count());
        self.tip = Tip { position, ..group.tip };
        Ok(Group { frames, answers: Vec::new(), file: None, tip: self.tip, pinned_bytes })
    }
}

/// The frame that a header and a body are.
fn frame(header: &FrameHeader, body: &bytes::Bytes) -> Result<Frame, OpFault> {
    let ops = op::decode(body, header.op_count)?;
    Ok(Frame { lsn: header.lsn, time_us: header.time_us, position: header.position, ops })
}
