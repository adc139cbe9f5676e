//! Publish: durable groups become visible, all of a group at once, and then their answers are given.
//!
//! The order: tail entries in place → tables applied → one store of the published mark → waiters woken → answers, in
//! order. Before the mark moves nobody sees any of it; after it, everybody all of it.

mod events;
pub mod watch;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    admit::SharedApplied,
    id::{Lane, Lsn, TopicId},
    journal::{Frame, Group, Tip, op::Op},
    marks::Marks,
    notice::{Notice, Notices},
    poison::Poison,
    stage::{Bell, Now, Queue, Stage, Step},
    table::follow::Misfit,
    tail::{Pin, Tail, TailBatch},
};

use parking_lot::Mutex;

use watch::Watch;

/// The tips of published groups, newest last: where in the journal a checkpoint may cut. Bounded by the groups that
/// fit into the journal.
#[derive(Debug, Default)]
pub struct Tips {
    newest: Mutex<Tip>,
}

impl Tips {
    /// A start at `tip`.
    pub fn at(tip: Tip) -> Self {
        Self { newest: Mutex::new(tip) }
    }

    /// The newest published tip.
    pub fn newest(&self) -> Tip {
        *self.newest.lock()
    }
}

/// What frames are applied to: shared by publish and by recovery's replay.
pub struct Applier {
    /// The tables.
    pub applied: SharedApplied,
    /// The tail.
    pub tail: Arc<Tail>,
    /// Where a checkpoint may cut.
    pub tips: Arc<Tips>,
    /// Set when a topic was deleted: what unlinks its files need not wait for its time.
    pub deleted: Arc<AtomicBool>,
}

impl Applier {
    /// Puts a group's batches into the tail and its effects into the tables. Not visible before the mark is moved.
    /// Returns the lanes that grew and the topics that ended.
    ///
    /// # Panics
    ///
    /// When a batch does not continue its lane: then memory no longer agrees with the disk.
    pub fn apply(&self, group: &Group) -> (BTreeSet<Lane>, Vec<TopicId>) {
        let pin = self.tail.pin(group.pinned_bytes);
        let (mut grown, mut ended) = (BTreeSet::new(), Vec::new());
        for frame in &group.frames {
            let pushed = self.push(frame, &pin, &mut grown);
            assert_eq!(pushed, Ok(()), "a batch continues the tail of its lane");
            ended.extend(deleted(frame));
        }
        // A checkpoint looks at both under the tables' lock.
        let mut applied = self.applied.write();
        for frame in group.frames.iter().filter(|frame: &&Frame| frame.lsn > applied.lsn).collect::<Vec<_>>() {
            applied.apply(frame);
        }
        *self.tips.newest.lock() = group.tip;
        drop(applied);
        if !ended.is_empty() {
            self.deleted.store(true, Ordering::Release);
        }
        (grown, ended)
    }

    /// The same for a group that recovery reads again, each frame held against the tables before it. Returns the topics
    /// that ended.
    ///
    /// # Errors
    ///
    /// The frame that does not follow from the tables, and why. What was applied by then is worth nothing.
    pub fn replay(&self, group: &Group) -> Result<Vec<TopicId>, (Lsn, Misfit)> {
        let (pin, mut ended) = (self.tail.pin(group.pinned_bytes), Vec::new());
        let mut applied = self.applied.write();
        for frame in &group.frames {
            let misfit = |misfit| (frame.lsn, misfit);
            applied.replay(frame).map_err(misfit)?;
            self.push(frame, &pin, &mut BTreeSet::new()).map_err(misfit)?;
            ended.extend(deleted(frame));
        }
        *self.tips.newest.lock() = group.tip;
        drop(applied);
        if !ended.is_empty() {
            self.deleted.store(true, Ordering::Release);
        }
        Ok(ended)
    }

    /// Puts a frame's batches into the tail.
    fn push(&self, frame: &Frame, pin: &Arc<Pin>, grown: &mut BTreeSet<Lane>) -> Result<(), Misfit> {
        let (lsn, time_us, mut next) = (frame.lsn, frame.time_us, frame.position);
        for op in &frame.ops {
            let Op::Batch(op) = op else { continue };
            grown.insert(op.lane);
            let position = next;
            next += u64::from(op.batch.record_count);
            let (lane, base, batch, pin) = (op.lane, op.base, op.batch.clone(), pin.clone());
            let pushed = self.tail.push(lane, TailBatch { base, lsn, position, time_us, batch, pin });
            pushed.map_err(|expected| Misfit::Flushed { lane, expected, found: base })?;
        }
        Ok(())
    }
}

/// The topics that a frame deletes.
fn deleted(frame: &Frame) -> impl Iterator<Item = TopicId> {
    frame.ops.iter().filter_map(|op| if let Op::TopicDelete(topic) = op { Some(*topic) } else { None })
}

/// What the publish stage works with.
pub struct Parts {
    /// What applies frames.
    pub applier: Applier,
    /// Rung for those who wait for changes of groups.
    pub watch: Arc<Watch>,
    /// Moved: how far frames are published.
    pub marks: Arc<Marks>,
    /// Writes are off when it is set.
    pub poison: Arc<Poison>,
    /// Told what frames changed.
    pub notices: Arc<Notices>,
    /// From the group sync.
    pub inbox: Arc<Queue<Group>>,
    /// Rung when there is something to checkpoint again, or to unlink.
    pub checkpointer: Bell,
    /// What wakes it.
    pub bell: Bell,
}

/// The publish stage.
pub struct Publisher {
    parts: Parts,
}

impl Publisher {
    /// Publishes what comes from the group sync.
    pub fn new(parts: Parts) -> Self {
        Self { parts }
    }
}

impl Stage for Publisher {
    fn name(&self) -> &'static str {
        "publish"
    }

    fn bell(&self) -> &Bell {
        &self.parts.bell
    }

    fn step(&mut self, _now: Now) -> Step {
        let Some(group) = self.parts.inbox.pop() else {
            return if self.parts.poison.is_set() { Step::Poisoned } else { Step::Idle };
        };
        if let Some(poisoned) = self.parts.poison.first() {
            // Durable or not, marks stand still now. The restart will tell.
            group.answers.into_iter().for_each(|pending| pending.give_unknown(&poisoned));
            return Step::Did;
        }
        if !group.frames.is_empty() {
            let events = events::has_any(&group.frames);
            let events = events.then(|| events::of(&group.frames, &self.parts.applier.applied.read()));
            let (grown, ended) = self.parts.applier.apply(&group);
            let was_at_rest = self.parts.marks.published.get() == self.parts.marks.checkpointed.get();
            self.parts.marks.published.raise(group.tip.lsn);
            if was_at_rest || !ended.is_empty() {
                self.parts.checkpointer.ring();
            }
            events.into_iter().flatten().for_each(|change| self.parts.notices.push(Notice::Changed(change)));
            self.parts.applier.tail.wake(grown);
            self.parts.watch.wake(&group.frames);
            for topic in ended {
                self.parts.applier.tail.end_topic(topic);
            }
        }
        group.answers.into_iter().for_each(crate::answer::Pending::give);
        Step::Did
    }
}
