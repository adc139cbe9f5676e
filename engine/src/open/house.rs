//! What the stages share, and how the road is put together: which queue stands between which two stages, which bell
//! wakes whom.

use std::sync::{Arc, atomic::AtomicU64};

use parking_lot::Mutex;

use crate::{
    admit::{Admitted, SharedApplied, room::Room},
    commit::{self, Applier, Publisher, Tips, watch::Watch},
    disk::{Disk, DiskFile, aligned::AlignedPool},
    flush::{Wishes, Written, checkpoint, flusher},
    journal::{
        Identity,
        pool::Pool,
        sync::{self, Sync},
        writer::{self, Resume, Writer},
    },
    marks::Marks,
    notice::Notices,
    poison::Poison,
    presence::Presence,
    read::Reads,
    segment::shelf::Shelf,
    sequence::{self, Sequencer},
    settings::Settings,
    stage::{Bell, Queue},
    tail::Tail,
};

/// Groups on their way between two stages.
const GROUPS_MAX: usize = 8;
/// Frames on their way from `sequence` to the group write.
const FRAMES_MAX: usize = 4_096;
/// Controls that wait for `sequence`.
pub(super) const CONTROLS_MAX: usize = 1_024;

/// One bell a stage.
#[derive(Default)]
pub(super) struct Bells {
    pub(super) sequencer: Bell,
    pub(super) writer: Bell,
    pub(super) sync: Bell,
    pub(super) publisher: Bell,
    pub(super) flusher: Bell,
    pub(super) checkpointer: Bell,
    pub(super) ballast: Bell,
}

/// What the stages share.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) settings: Settings,
    pub(super) identity: Identity,
    pub(super) marks: Arc<Marks>,
    pub(super) poison: Arc<Poison>,
    pub(super) buffers: AlignedPool,
    pub(super) pool: Arc<Pool>,
    pub(super) tail: Arc<Tail>,
    pub(super) applied: SharedApplied,
    pub(super) tips: Arc<Tips>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) written: Arc<Written>,
    pub(super) wishes: Arc<Wishes>,
    pub(super) room: Arc<Room>,
    pub(super) next_segment: Arc<AtomicU64>,
    pub(super) controls: Arc<Queue<Admitted>>,
    pub(super) watch: Arc<Watch>,
    pub(super) presence: Arc<Presence>,
    pub(super) notices: Arc<Notices>,
    pub(super) bells: Bells,
}

impl Shared {
    pub(super) fn applier(&self) -> Applier {
        let (applied, tail, tips) = (self.applied.clone(), self.tail.clone(), self.tips.clone());
        Applier { applied, tail, tips, deleted: self.wishes.deleted() }
    }

    pub(super) fn reads(&self) -> Reads {
        Reads {
            disk: self.disk.clone(),
            applied: self.applied.clone(),
            marks: self.marks.clone(),
            tail: self.tail.clone(),
            shelf: self.shelf.clone(),
            poison: self.poison.clone(),
            buffers: self.buffers.clone(),
            notices: self.notices.clone(),
            reported: Mutex::default(),
        }
    }

    pub(super) fn flusher(&self) -> flusher::Parts {
        flusher::Parts {
            disk: self.disk.clone(),
            tail: self.tail.clone(),
            applied: self.applied.clone(),
            marks: self.marks.clone(),
            poison: self.poison.clone(),
            shelf: self.shelf.clone(),
            buffers: self.buffers.clone(),
            identity: self.identity,
            settings: self.settings.clone(),
            written: self.written.clone(),
            wishes: self.wishes.clone(),
            room: self.room.clone(),
            next_segment: self.next_segment.clone(),
            notices: self.notices.clone(),
            checkpointer: self.bells.checkpointer.clone(),
            bell: self.bells.flusher.clone(),
        }
    }

    pub(super) fn checkpointer(&self) -> checkpoint::Parts {
        checkpoint::Parts {
            disk: self.disk.clone(),
            applied: self.applied.clone(),
            tips: self.tips.clone(),
            tail: self.tail.clone(),
            pool: self.pool.clone(),
            marks: self.marks.clone(),
            poison: self.poison.clone(),
            shelf: self.shelf.clone(),
            written: self.written.clone(),
            wishes: self.wishes.clone(),
            next_segment: self.next_segment.clone(),
            room: self.room.clone(),
            controls: self.controls.clone(),
            notices: self.notices.clone(),
            identity: self.identity,
            settings: self.settings.clone(),
            flusher: self.bells.flusher.clone(),
            ballast: self.bells.ballast.clone(),
            bell: self.bells.checkpointer.clone(),
        }
    }
}

/// The four stages that an append passes, and the queues between them.
pub(super) struct Road {
    pub(super) sequencer: Sequencer,
    pub(super) writer: Writer,
    pub(super) sync: Sync,
    pub(super) publisher: Publisher,
    pub(super) appends: Arc<Queue<Admitted>>,
    pub(super) syncs: Arc<AtomicU64>,
}

impl Road {
    pub(super) fn new(shared: &Shared, resume: Resume, watermark: Arc<dyn DiskFile>) -> Self {
        let bells = &shared.bells;
        let controls = shared.controls.clone();
        let appends = Queue::new(shared.settings.in_flight_appends, &Bell::default(), &bells.sequencer);
        let frames = Queue::new(FRAMES_MAX, &bells.sequencer, &bells.writer);
        let written = Queue::new(GROUPS_MAX, &bells.writer, &bells.sync);
        let durable = Queue::new(GROUPS_MAX, &bells.sync, &bells.publisher);
        let syncs = Arc::new(AtomicU64::new(0));
        let sequencer = Sequencer::new(sequence::Parts {
            applied: shared.applied.clone(),
            marks: shared.marks.clone(),
            poison: shared.poison.clone(),
            pool: shared.pool.clone(),
            tail: shared.tail.clone(),
            room: shared.room.clone(),
            presence: shared.presence.clone(),
            notices: shared.notices.clone(),
            frame_bytes_max: shared.settings.frame_bytes_max(),
            answers_bytes: shared.settings.answers_bytes,
            refuse_when_full: shared.settings.hold_checkpoints,
            appends: appends.clone(),
            controls,
            outbox: frames.clone(),
            bell: bells.sequencer.clone(),
        });
        let parts = writer::Parts {
            disk: shared.disk.clone(),
            pool: shared.pool.clone(),
            buffers: shared.buffers.clone(),
            identity: shared.identity,
            marks: shared.marks.clone(),
            poison: shared.poison.clone(),
            file_bytes: shared.settings.journal_file_bytes,
            group_bytes: shared.settings.group_bytes,
            inbox: frames,
            outbox: written.clone(),
            bell: bells.writer.clone(),
        };
        let writer = Writer::resume(parts, resume);
        let sync = Sync::new(sync::Parts {
            watermark,
            incarnation: shared.identity.incarnation,
            marks: shared.marks.clone(),
            poison: shared.poison.clone(),
            syncs: syncs.clone(),
            inbox: written,
            outbox: durable.clone(),
            bell: bells.sync.clone(),
        });
        let (marks, poison) = (shared.marks.clone(), shared.poison.clone());
        let publisher = Publisher::new(commit::Parts {
            applier: shared.applier(),
            watch: shared.watch.clone(),
            marks,
            poison,
            notices: shared.notices.clone(),
            inbox: durable,
            checkpointer: bells.checkpointer.clone(),
            bell: bells.publisher.clone(),
        });
        Self { sequencer, writer, sync, publisher, appends, syncs }
    }
}
