//! The handle: what callers may ask of a log that is open. Cheap to clone, safe from any thread.
//!
//! Writes answer by a [`Ticket`]; reads answer at once, from memory or by blocking on the disk. Nothing here knows a
//! runtime: a ticket is a future for any executor, and has a blocking wait.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    admit::{self, Admitted, Request},
    budget::{Budget, Permit},
    disk::{Disk, Mode},
    env::Env,
    error::{ReadFault, Refusal},
    id::{Lane, Lsn, Offset, Partition, TopicId},
    journal::control::CONTROL_PATH,
    limits,
    marks::Marks,
    notice::Notices,
    open::{self, OpenError, OpenReport, Parts, Stages},
    read::Moved,
    request::{
        Append, Appended, Extent, InitProducer, ProducerOpened, ProducerView, ReadAnswer, RecentAppend, SegmentView,
        Start, Status, TopicConfig, TopicCreated, TopicView,
    },
    sequence::{self, Gate, registry},
    settings::Settings,
    ticket::{Reply, Ticket, ticket},
};

pub mod groups;

/// What a stop left to the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Durable frames that no checkpoint stands for: the next start replays them.
    pub frames: u64,
    /// The last durable frame.
    pub durable: Lsn,
    /// Partitions with records that are in no segment yet.
    pub partitions: u64,
}

/// A log that is open for writing.
#[derive(Clone)]
pub struct Engine {
    parts: Arc<Parts>,
    budget: Budget,
    commands: Budget,
}

/// Opens a data directory: the handle, the stages for a driver, and what was found.
///
/// # Errors
///
/// [`OpenError`]; see [`open::open`].
pub fn open(
    disk: Arc<dyn Disk>,
    env: Arc<dyn Env>,
    settings: Settings,
) -> Result<(Engine, Stages, OpenReport), OpenError> {
    let opened = open::open(disk, env, settings)?;
    let settings = &opened.parts.settings;
    let budget = Budget::new(settings.in_flight_bytes, settings.in_flight_appends);
    let commands = Budget::new(limits::COMMANDS_BYTES_MAX, usize::MAX);
    Ok((Engine { parts: Arc::new(opened.parts), budget, commands }, opened.stages, opened.report))
}

fn overloaded<T>(budget: &Budget) -> Ticket<T> {
    Ticket::resolved(Err(Refusal::Overloaded { limit_bytes: budget.bytes_max() }))
}

impl Engine {
    /// Appends when there is room in the budget: resolves to the ticket once the append is admitted or refused. When as
    /// much waits for room as there is room, it is refused as [`Refusal::Overloaded`].
    ///
    /// **Order**: calls get room in the order in which their futures were first polled; await one before the next is
    /// made and the log has them in that order. **Durability**: when the ticket answers, the append is on the disk.
    /// **Cancelling**: the future or the ticket dropped before the log has taken the append up: nothing is written.
    pub async fn append(&self, append: Append) -> Ticket<Appended> {
        match self.budget.acquire(admit::append_bytes(&append)).await {
            Some(permit) => self.enter(append, permit),
            None => overloaded(&self.budget),
        }
    }

    /// As [`Engine::append`], but a full budget is answered [`Refusal::Overloaded`] at once.
    pub fn try_append(&self, append: Append) -> Ticket<Appended> {
        match self.budget.try_acquire(admit::append_bytes(&append)) {
            Some(permit) => self.enter(append, permit),
            None => overloaded(&self.budget),
        }
    }

    fn enter(&self, append: Append, permit: Permit) -> Ticket<Appended> {
        let parts = &self.parts;
        let room = || parts.room.check(parts.env.mono_us(), parts.tail.pinned_bytes());
        let admitted = self.check_open().and_then(|()| room()).and_then(|()| admit::admit(append, &parts.applied));
        match admitted {
            Err(refusal) => Ticket::resolved(Err(self.with_similar(refusal))),
            Ok(mut admitted) => {
                admitted.missing = admitted.missing.map(|refusal| self.with_similar(refusal));
                let (reply, ticket) = ticket();
                let request = Request::Append(Box::new(admitted), reply);
                let pushed = parts.appends.push(Admitted { request, permit: Some(permit) });
                // The budget holds as many appends as the queue does; one that finds no place was not taken.
                if let Err(admitted) = pushed {
                    drop(admitted);
                    return overloaded(&self.budget);
                }
                ticket
            }
        }
    }

    fn check_open(&self) -> Result<(), Refusal> {
        if let Some(poisoned) = self.parts.poison.first() {
            return Err(Refusal::Poisoned(poisoned));
        }
        if self.parts.stopping.load(Ordering::Acquire) { Err(Refusal::Stopping) } else { Ok(()) }
    }

    fn control<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Ticket<T> {
        if let Err(refusal) = self.check_open() {
            return Ticket::resolved(Err(refusal));
        }
        let (reply, ticket) = ticket();
        let request = request(reply);
        let Some(permit) = self.commands.try_acquire(admit::command_bytes(&request)) else {
            return overloaded(&self.commands);
        };
        if self.parts.controls.push(Admitted { request, permit: Some(permit) }).is_err() {
            return overloaded(&self.commands);
        }
        ticket
    }

    /// Registers a producer, or takes one over: every older epoch is fenced when this answers.
    pub fn init_producer(&self, init: InitProducer) -> Ticket<ProducerOpened> {
        self.control(|reply| Request::InitProducer(init, reply))
    }

    /// The newest appends of a producer at this epoch, oldest first, as far as they fit [`limits::RECENT_BYTES_MAX`].
    /// The flag: there are older ones that are remembered.
    ///
    /// # Errors
    ///
    /// The producer is gone, or another one's by now.
    pub fn newest_appends(&self, name: &str, epoch: u64) -> Result<(Vec<RecentAppend>, bool), Refusal> {
        let applied = self.parts.applied.read();
        let unknown = || Refusal::ProducerUnknown { producer: name.to_owned() };
        let row = applied.producer(name).ok_or_else(unknown)?;
        if row.epoch != epoch {
            return Err(Refusal::ProducerFenced { producer: name.to_owned(), epoch, current: row.epoch });
        }
        Ok(registry::newest_appends(&applied, row))
    }

    /// Forgets a producer, at this epoch when one is given: what it still sends is refused, and a retry of what has no
    /// answer yet is no longer recognised.
    pub fn delete_producer(&self, name: &str, epoch: Option<u64>) -> Ticket<()> {
        self.control(|reply| Request::DeleteProducer(name.to_owned(), epoch, reply))
    }

    /// Producers whose names start with `prefix`, sorted by name, behind `after`, at most `count`.
    pub fn producers(&self, prefix: &str, after: Option<&str>, count: usize) -> Vec<ProducerView> {
        let applied = self.parts.applied.read();
        let first = after.map_or(prefix, |after| after.max(prefix)).to_owned();
        let from = applied.producer_names.range(first..).filter(|(name, _)| Some(name.as_str()) != after);
        let fitting = from.take_while(|(name, _)| name.starts_with(prefix)).take(count);
        fitting.filter_map(|(_, id)| applied.producers.get(id)).map(registry::producer_view).collect()
    }

    /// Appends of a producer that are remembered, oldest first, behind the sequence `after`: about `bytes_max` of them,
    /// one at least. The flag: there are more.
    pub fn producer_appends(
        &self,
        name: &str,
        after: u64,
        bytes_max: usize,
    ) -> Result<(Vec<RecentAppend>, bool), Refusal> {
        let applied = self.parts.applied.read();
        let unknown = || Refusal::ProducerUnknown { producer: name.to_owned() };
        let row = applied.producer(name).ok_or_else(unknown)?;
        let mut room = bytes_max;
        let mut left = row.answers.iter().filter(|answer| answer.sequence > after).peekable();
        let mut page = Vec::new();
        while let Some(answer) = left.next_if(|answer| page.is_empty() || registry::recent_bytes(answer) <= room) {
            room = room.saturating_sub(registry::recent_bytes(answer));
            page.push(registry::recent_append(&applied, answer));
        }
        Ok((page, left.peek().is_some()))
    }

    /// Creates a topic, or finds it standing with the same configuration; `dry_run` only says what would be.
    pub fn create_topic(&self, name: &str, config: TopicConfig, dry_run: bool) -> Ticket<TopicCreated> {
        self.control(|reply| Request::CreateTopic(name.to_owned(), config, dry_run, reply))
    }

    /// Deletes a topic of exactly this id, with all its records.
    pub fn delete_topic(&self, name: &str, id: TopicId) -> Ticket<()> {
        self.control(|reply| Request::DeleteTopic(name.to_owned(), id, reply))
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Result<TopicView, Refusal> {
        let applied = self.parts.applied.read();
        let found = applied.topic(name).map(registry::view);
        drop(applied);
        found.ok_or_else(|| self.with_similar(admit::not_found(name)))
    }

    /// Topics whose names start with `prefix`, sorted by name, behind `after`, at most `count`.
    pub fn topics(&self, prefix: &str, after: Option<&str>, count: usize) -> Vec<TopicView> {
        let applied = self.parts.applied.read();
        let first = after.map_or(prefix, |after| after.max(prefix)).to_owned();
        let from = applied.topic_names.range(first..).filter(|(name, _)| Some(name.as_str()) != after);
        let fitting = from.take_while(|(name, _)| name.starts_with(prefix)).take(count);
        fitting.filter_map(|(_, id)| applied.topics.get(id)).map(registry::view).collect()
    }

    /// A refusal with the name that is closest to the one that was not found. **Cost**: some thousand comparisons, on a
    /// copy of the names.
    pub fn with_similar(&self, refusal: Refusal) -> Refusal {
        let applied = &self.parts.applied;
        match refusal {
            Refusal::TopicNotFound { topic, similar: None } => {
                let names = admit::similar::around(&applied.read().topic_names, &topic);
                let similar = admit::similar::closest(names, &topic);
                Refusal::TopicNotFound { topic, similar }
            }
            Refusal::GroupNotFound { group, similar: None } => {
                let names = admit::similar::around(&applied.read().group_names, &group);
                let similar = admit::similar::closest(names, &group);
                Refusal::GroupNotFound { group, similar }
            }
            other => other,
        }
    }

    /// What a lane holds.
    pub fn extent(&self, lane: Lane) -> Result<Extent, ReadFault> {
        self.parts.reads.extent(lane)
    }

    /// What several partitions of a topic hold.
    pub fn extents(&self, topic: TopicId, partitions: &[Partition]) -> Result<Vec<Extent>, ReadFault> {
        partitions.iter().map(|&partition| self.extent(Lane { topic, partition })).collect()
    }

    /// Reads about `bytes_max` of decoded record bytes from `from` on: at least one batch when there is one. Blocks on
    /// the disk when the records are not in memory.
    pub fn read(&self, lane: Lane, from: Offset, bytes_max: usize) -> Result<ReadAnswer, ReadFault> {
        self.parts.reads.read(lane, from, bytes_max)
    }

    /// Whether a read from there would be answered from memory.
    pub fn is_in_memory(&self, lane: Lane, from: Offset) -> bool {
        self.parts.reads.is_in_memory(lane, from)
    }

    /// Decoded bytes that a read from there would give from memory, at most `bytes_max` and a batch.
    pub fn bytes_in_memory(&self, lane: Lane, from: Offset, bytes_max: usize) -> usize {
        self.parts.reads.bytes_in_memory(lane, from, bytes_max)
    }

    /// Waits for the visible end to be past `end`, or the topic to be gone.
    pub fn moved(&self, lane: Lane, end: Offset) -> Moved {
        self.parts.reads.moved(lane, end)
    }

    /// Finds where a read starts. Blocks on the disk for times.
    pub fn find(&self, lane: Lane, start: Start) -> Result<Offset, ReadFault> {
        self.parts.reads.find(lane, start)
    }

    /// Segments of a lane, oldest first.
    pub fn segments(&self, lane: Lane) -> Result<Vec<SegmentView>, ReadFault> {
        self.parts.reads.segments(lane)
    }

    /// How far frames are durable, published, checkpointed.
    pub fn marks(&self) -> &Marks {
        &self.parts.marks
    }

    /// Asks for a checkpoint of what is published now; it comes in the background.
    pub fn ask_checkpoint(&self) {
        self.parts.wishes.ask_checkpoint();
        self.parts.checkpointer.ring();
    }

    /// The run of this log: rises with each opening.
    pub fn incarnation(&self) -> u64 {
        self.parts.identity.incarnation.0
    }

    /// The id of its directory.
    pub fn node_id(&self) -> String {
        self.parts.identity.node.to_string()
    }

    /// Syncs of the journal since the start.
    pub fn journal_syncs(&self) -> u64 {
        self.parts.syncs.load(Ordering::Relaxed)
    }

    /// The engine at a glance. **Cost**: a look at every partition.
    pub fn status(&self) -> Status {
        let parts = &self.parts;
        let applied = parts.applied.read();
        let (topics, producers) = (applied.topic_names.len() as u64, applied.producers.len() as u64);
        let (partitions, groups) = (applied.sums.partitions, applied.groups.len() as u64);
        let answer_bytes = applied.sums.answer_bytes;
        drop(applied);
        let fullness = parts.pool.fullness();
        let stored = parts.tail.lanes().iter().map(|(_, lane)| stored_bytes(lane)).sum();
        Status {
            incarnation: self.incarnation(),
            node_id: self.node_id(),
            durable: parts.marks.durable.get(),
            published: parts.marks.published.get(),
            checkpointed: parts.marks.checkpointed.get(),
            topics,
            partitions,
            producers,
            groups,
            tail_bytes: parts.tail.pinned_bytes(),
            tail_bytes_max: parts.settings.tail_bytes,
            in_flight_bytes: self.budget.bytes(),
            in_flight_bytes_max: self.budget.bytes_max(),
            waiting_bytes: self.budget.waiting_bytes(),
            command_bytes: self.commands.bytes(),
            command_bytes_max: self.commands.bytes_max(),
            answer_bytes,
            answer_bytes_max: parts.settings.answers_bytes,
            journal_files: fullness.used.into(),
            journal_files_max: fullness.files_max.into(),
            stored_bytes: stored,
            free_bytes: parts.disk.space().ok().map(|space| space.free),
            needed_bytes: parts.room.needed_bytes(parts.tail.pinned_bytes()),
            syncs: self.journal_syncs(),
            poisoned: parts.poison.first().map(|poisoned| poisoned.to_string()),
        }
    }

    /// Why an append would be refused now whatever is in it: the disk or the journal is full, something is lacking, or
    /// writes are off.
    pub fn write_refusal(&self) -> Option<Refusal> {
        let parts = &self.parts;
        let now_us = parts.env.mono_us();
        let door = self.check_open().and_then(|()| parts.room.check(now_us, parts.tail.pinned_bytes()));
        if let Err(refusal) = door {
            return Some(refusal);
        }
        match sequence::gate(&parts.pool, &parts.tail, &parts.room, parts.settings.hold_checkpoints, now_us) {
            Gate::Refuse(refusal) => Some(refusal),
            Gate::Open | Gate::Wait => None,
        }
    }

    /// New writes are refused from here on; those in flight are answered.
    pub(crate) fn refuse_writes(&self) -> &AtomicBool {
        self.parts.stopping.store(true, Ordering::Release);
        &self.parts.stopping
    }

    /// Whether everything that was admitted is answered and everything published is checkpointed.
    pub(crate) fn is_at_rest(&self) -> bool {
        let parts = &self.parts;
        let idle = self.budget.bytes() == 0 && parts.appends.is_empty() && parts.controls.is_empty();
        let marks = &parts.marks;
        idle && marks.durable.get() == marks.published.get() && marks.published.get() == marks.checkpointed.get()
    }

    /// Whether writes are off for good.
    pub fn is_poisoned(&self) -> bool {
        self.parts.poison.is_set()
    }

    /// Writes the clean mark: the stages have ended, and everything durable is checkpointed.
    pub(crate) fn mark_clean(&self, last: Lsn) -> std::io::Result<()> {
        let mut control = self.parts.control.lock();
        control.clean_lsn = last;
        let file = self.parts.disk.open(CONTROL_PATH, Mode::Write, false)?;
        control.write_next(&*file)
    }

    /// What the operator should know: taken out by one reader.
    pub fn notices(&self) -> &Arc<Notices> {
        &self.parts.notices
    }

    /// What no checkpoint stands for yet: frames, and partitions with records that are in no segment.
    pub(crate) fn left(&self) -> Left {
        let marks = &self.parts.marks;
        let (durable, checkpointed) = (marks.durable.get(), marks.checkpointed.get());
        let is_dirty = |(_, lane): &(Lane, crate::tail::SharedLane)| !lane.lock().batches.is_empty();
        let partitions = self.parts.tail.lanes().iter().filter(|lane| is_dirty(lane)).count() as u64;
        Left { frames: durable.get().saturating_sub(checkpointed.get()), durable, partitions }
    }

    /// The clock that it was opened with.
    pub fn env(&self) -> &Arc<dyn Env> {
        &self.parts.env
    }
}

fn stored_bytes(lane: &crate::tail::SharedLane) -> u64 {
    lane.lock().segments.iter().map(|row| row.bytes).sum()
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("identity", &self.parts.identity).finish_non_exhaustive()
    }
}
