//! Publish: durable groups become visible, all of a group at once, and then their answers are given.
//!
//! The order: tail entries in place → tables applied → one store of the published mark → waiters woken → answers, in
//! order. Before the mark moves nobody sees any of it; after it, everybody all of it.

pub mod watch;

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    admit::SharedApplied,
    flush::Wishes,
    id::{Lane, TopicId},
    journal::{Frame, Group, Tip, op::Op},
    marks::Marks,
    poison::Poison,
    stage::{Bell, Now, Queue, Stage, Step},
    tail::{Tail, TailBatch},
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
    /// Told of deleted topics.
    pub wishes: Arc<Wishes>,
}

impl Applier {
    /// Puts a group's batches into the tail and its effects into the tables. Not visible before the mark is moved.
    /// Returns the lanes that grew and the topics that ended.
    pub fn apply(&self, group: &Group) -> (BTreeSet<Lane>, Vec<TopicId>) {
        let pin = self.tail.pin(group.pinned_bytes);
        let (mut grown, mut ended) = (BTreeSet::new(), Vec::new());
        for frame in &group.frames {
            let (lsn, time_us, mut next) = (frame.lsn, frame.time_us, frame.position);
            for op in &frame.ops {
                match op {
                    Op::Batch(op) => {
                        grown.insert(op.lane);
                        let position = next;
                        next += u64::from(op.batch.record_count);
                        let (base, batch, pin) = (op.base, op.batch.clone(), pin.clone());
                        self.tail.push(op.lane, TailBatch { base, lsn, position, time_us, batch, pin });
                    }
                    Op::TopicDelete(topic) => ended.push(*topic),
                    _ => {}
                }
            }
        }
        // A checkpoint looks at both under the tables' lock.
        let mut applied = self.applied.write();
        for frame in group.frames.iter().filter(|frame: &&Frame| frame.lsn > applied.lsn).collect::<Vec<_>>() {
            applied.apply(frame);
        }
        *self.tips.newest.lock() = group.tip;
        drop(applied);
        if !ended.is_empty() {
            self.wishes.topic_deleted();
        }
        (grown, ended)
    }
}

/// The publish stage.
pub struct Publisher {
    applier: Applier,
    watch: Arc<Watch>,
    marks: Arc<Marks>,
    poison: Arc<Poison>,
    inbox: Arc<Queue<Group>>,
    checkpointer: Bell,
    bell: Bell,
}

impl Publisher {
    /// Publishes what comes from the group sync; rings the checkpointer when there is something to checkpoint again, or
    /// to unlink.
    pub fn new(
        applier: Applier,
        watch: Arc<Watch>,
        marks: Arc<Marks>,
        poison: Arc<Poison>,
        inbox: Arc<Queue<Group>>,
        checkpointer: Bell,
        bell: Bell,
    ) -> Self {
        Self { applier, watch, marks, poison, inbox, checkpointer, bell }
    }
}

impl Stage for Publisher {
    fn name(&self) -> &'static str {
        "publish"
    }

    fn bell(&self) -> &Bell {
        &self.bell
    }

    fn step(&mut self, _now: Now) -> Step {
        let Some(group) = self.inbox.pop() else {
            return if self.poison.is_set() { Step::Poisoned } else { Step::Idle };
        };
        if let Some(poisoned) = self.poison.first() {
            // Durable or not, marks stand still now. The restart will tell.
            group.answers.into_iter().for_each(|pending| pending.give_unknown(&poisoned));
            return Step::Did;
        }
        if !group.frames.is_empty() {
            let (grown, ended) = self.applier.apply(&group);
            let was_at_rest = self.marks.published.get() == self.marks.checkpointed.get();
            self.marks.published.raise(group.tip.lsn);
            if was_at_rest || !ended.is_empty() {
                self.checkpointer.ring();
            }
            self.applier.tail.wake(grown);
            self.watch.wake(&group.frames);
            for topic in ended {
                self.applier.tail.end_topic(topic);
            }
        }
        group.answers.into_iter().for_each(crate::answer::Pending::give);
        Step::Did
    }
}
