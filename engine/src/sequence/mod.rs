//! The only place that says no to an append that was admitted. Decides, assigns offsets, hands the frame on.
//!
//! One stage per shard. It looks at the applied state through an overlay of what is on its way to the disk, so that
//! the next append can be decided before the one before it is durable. Nothing becomes visible or answered here: a
//! frame carries its answer along, and an answer that needs no frame but rests on one that is not published yet
//! follows it down the road.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    admit::{Admitted, AdmittedAppend, GroupRequest, Request, SharedApplied, room::Room},
    answer::{Answer, Pending},
    budget::Permit,
    error::{Refusal, Sized},
    id::{GroupId, Lsn},
    journal::{
        Frame, Sequenced,
        frame::FRAME_HEADER_BYTES,
        group_op::GroupOp,
        op::{OP_HEADER_BYTES, Op},
        pool::Pool,
    },
    marks::Marks,
    notice::Notices,
    poison::Poison,
    presence::Presence,
    request::{Appended, AppendedBatch},
    stage::{Bell, Now, Queue, Stage, Step},
    table::row::{AnswerRow, TopicRow},
    tail::Tail,
    ticket::Reply,
};

mod ahead;
mod absence;
mod clock;
mod expiry;
pub(crate) mod groups;
mod share;
mod decide;
pub(crate) mod registry;

use absence::Absence;
use ahead::Ahead;
use clock::Clock;
use decide::{Accepted, Counts, Decision, View};
use expiry::Expiry;
use registry::Verdict;

/// Producers that one frame forgets at most.
const EXPIRED_MAX: usize = 4_096;

/// While appends wait for room, it is looked at again after this long.
const LOOK_AGAIN_US: u64 = 100_000;

/// Numbers that the next frame gets.
#[derive(Clone, Copy, Debug)]
struct Next {
    lsn: Lsn,
    time_us: i64,
    position: u64,
    topic: u64,
    producer: u64,
    group: u64,
}

/// What becomes of appends that wait here.
pub(crate) enum Gate {
    Open,
    /// There is no room; it comes free by itself.
    Wait,
    /// There is no room, and none will come by waiting alone.
    Refuse(Refusal),
}

/// What becomes of appends now: asked by the stage, and by whoever tells the state of writes.
pub(crate) fn gate(pool: &Pool, tail: &Tail, room: &Room, refuse_when_full: bool, now_us: u64) -> Gate {
    let fullness = pool.fullness();
    let is_held = fullness.holds_appends();
    if is_held && (refuse_when_full || fullness.refuses_appends()) {
        let (files, limit) = (u64::from(fullness.used), u64::from(fullness.files_max * 3 / 4));
        return Gate::Refuse(Refusal::JournalFull { files, limit });
    }
    // What is taken in now might never be written.
    if fullness.is_starved {
        return Gate::Refuse(Refusal::Lacking);
    }
    if !is_held && !tail.is_full() {
        return Gate::Open;
    }
    // Room comes by flushing, and flushing needs the disk.
    match room.check(now_us, tail.pinned_bytes()) {
        Ok(()) if room.is_lacking() => Gate::Refuse(Refusal::Lacking),
        Ok(()) => Gate::Wait,
        Err(refusal) => Gate::Refuse(refusal),
    }
}

/// The sequence stage.
pub struct Sequencer {
    parts: Parts,
    ahead: Ahead,
    next: Next,
    counts: Counts,
    /// The monotonic clock at this step, in microseconds.
    now_us: u64,
    clock: Clock,
    expiry: Expiry,
    absence: Absence,
    /// What absences have led to, and is not decided yet.
    overdue: VecDeque<(GroupId, GroupRequest)>,
}

/// What a sequencer is made of.
pub struct Parts {
    /// Read: what is durable.
    pub applied: SharedApplied,
    /// Read: how far frames are published.
    pub marks: Arc<Marks>,
    /// Writes are off when it is set.
    pub poison: Arc<Poison>,
    /// Read: how full the journal is.
    pub pool: Arc<Pool>,
    /// Read: how much of the tail is pinned.
    pub tail: Arc<Tail>,
    /// Read: whether flushing has room on the disk.
    pub room: Arc<Room>,
    /// Read: which members are there.
    pub presence: Arc<Presence>,
    /// Told when the clock jumps.
    pub notices: Arc<Notices>,
    /// What a frame may have, in bytes.
    pub frame_bytes_max: usize,
    /// See [`crate::settings::Settings::answers_bytes`].
    pub answers_bytes: u64,
    /// Checkpoints are held off, so a full journal will not come free: refuse instead of waiting.
    pub refuse_when_full: bool,
    /// Appends.
    pub appends: Arc<Queue<Admitted>>,
    /// Topics, producers, deletes: never wait behind appends that wait for room.
    pub controls: Arc<Queue<Admitted>>,
    /// To the group write.
    pub outbox: Arc<Queue<Sequenced>>,
    /// What wakes it.
    pub bell: Bell,
}

impl Sequencer {
    /// Goes on behind what is applied.
    pub fn new(parts: Parts) -> Self {
        let applied = parts.applied.read();
        let next = Next {
            lsn: applied.lsn.next(),
            time_us: applied.time_us,
            position: applied.position,
            topic: applied.counters.next_topic,
            producer: applied.counters.next_producer,
            group: applied.counters.next_group,
        };
        let counts = Counts::of(&applied, parts.answers_bytes);
        drop(applied);
        let absence = Absence::new(parts.presence.clone(), parts.frame_bytes_max);
        let expiry = Expiry::default();
        let (ahead, clock, overdue) = (Ahead::default(), Clock::default(), VecDeque::new());
        Self { parts, ahead, next, counts, now_us: 0, clock, expiry, absence, overdue }
    }

    /// The next request that is still wanted; appends only while there is room for them.
    fn take(&mut self, now: Now) -> Option<Admitted> {
        loop {
            let admitted = match self.parts.controls.pop() {
                Some(control) => control,
                None => self.take_append(now)?,
            };
            // Withdrawn: its client went away, or its deadline comes before its turn. Nothing is written for it.
            if admitted.request.take_up() {
                return Some(admitted);
            }
        }
    }

    fn take_append(&self, now: Now) -> Option<Admitted> {
        match self.gate(now) {
            Gate::Open => self.parts.appends.pop(),
            Gate::Wait => None,
            Gate::Refuse(refusal) => {
                while let Some(admitted) = self.parts.appends.pop() {
                    admitted.refuse(refusal.clone());
                }
                None
            }
        }
    }

    fn gate(&self, now: Now) -> Gate {
        let Parts { pool, tail, room, refuse_when_full, .. } = &self.parts;
        gate(pool, tail, room, *refuse_when_full, now.mono_us)
    }

    fn decide(&mut self, request: Request, permit: Option<Permit>) -> Option<Sequenced> {
        let Next { time_us, topic, producer, group, .. } = self.next;
        match request {
            Request::Append(append, reply) => self.append(&append, reply, permit),
            Request::InitProducer(init, reply) => {
                let verdict = self.look(|view| registry::init_producer(view, &init, producer));
                self.carry_out(verdict, reply, permit)
            }
            Request::CreateTopic(name, config, dry_run, reply) => {
                let verdict = self.look(|view| registry::create_topic(view, &name, config, dry_run, topic, time_us));
                self.carry_out(verdict, reply, permit)
            }
            Request::DeleteProducer(name, epoch, reply) => {
                let verdict = self.look(|view| registry::delete_producer(view, &name, epoch));
                self.carry_out(verdict, reply, permit)
            }
            Request::DeleteTopic(name, id, reply) => {
                let verdict = self.look(|view| registry::delete_topic(view, &name, id));
                self.carry_out(verdict, reply, permit)
            }
            Request::ForgetTopic(id) => Some(self.frame(vec![Op::TopicForget(id)], Answer::nobody(), None)),
            Request::CreateGroup(new, starts, reply) => {
                let verdict = self.look(|view| groups::create(view, &new, &starts, group));
                self.carry_out(verdict, reply, permit)
            }
            Request::SetCursors(set, reply) => {
                let verdict = self.look(|view| groups::set_cursors(view, &set));
                self.carry_out(verdict, reply, permit)
            }
            Request::Join(join, reply) => {
                let verdict = self.look(|view| groups::join(view, &join));
                self.carry_out(verdict, reply, permit)
            }
            Request::Group(change, reply) => {
                let verdict = self.look(|view| groups::any(view, &change));
                self.carry_out(verdict, reply, permit)
            }
        }
    }

    /// Writes what was decided, or says it.
    fn carry_out<T: Send + 'static>(
        &mut self,
        verdict: Verdict<T>,
        reply: Reply<T>,
        permit: Option<Permit>,
    ) -> Option<Sequenced> {
        match verdict {
            Verdict::Write(ops, answer) => match self.check_frame(&ops, Sized::RequestBytes) {
                Ok(()) => Some(self.frame(ops, Answer::to(reply, Ok(answer)), permit)),
                Err(refusal) => {
                    drop(permit);
                    reply.send(Err(refusal));
                    None
                }
            },
            Verdict::Say(answer, rests_on) => {
                self.follow(Pending { answer: Answer::to(reply, answer), permit, rests_on })
            }
        }
    }

    /// Whatever becomes a frame is held against its limit here: one that fits no journal file would wait for ever, and
    /// everything behind it.
    fn check_frame(&self, ops: &[Op], what: Sized) -> Result<(), Refusal> {
        let actual = FRAME_HEADER_BYTES + ops.iter().map(Op::encoded_bytes).sum::<usize>();
        let limit = self.parts.frame_bytes_max;
        if actual <= limit || cfg!(bug = "frame_unbounded") {
            return Ok(());
        }
        Err(Refusal::TooLarge { what, batch: None, limit: limit as u64, actual: actual as u64 })
    }

    /// Decides under one look at the applied state, pruned to it.
    fn look<T>(&mut self, decide: impl FnOnce(View<'_>) -> T) -> T {
        let applied = self.parts.applied.read();
        self.ahead.prune(applied.lsn);
        decide(View { applied: &applied, ahead: &self.ahead, lsn: self.next.lsn, counts: self.counts })
    }

    fn append(&mut self, append: &AdmittedAppend, reply: Reply<Appended>, permit: Option<Permit>) -> Option<Sequenced> {
        match self.look(|view| decide::append(view, append)) {
            Decision::Accept(accepted) => match self.check_frame(&accepted.ops, Sized::FrameBytes) {
                Ok(()) => Some(self.accept(append, accepted, reply, permit)),
                Err(refusal) => {
                    drop(permit);
                    reply.send(Err(refusal));
                    None
                }
            },
            Decision::Answer(answer, rests_on) => {
                self.follow(Pending { answer: Answer::to(reply, *answer), permit, rests_on })
            }
        }
    }

    fn accept(
        &mut self,
        append: &AdmittedAppend,
        accepted: Accepted,
        reply: Reply<Appended>,
        permit: Option<Permit>,
    ) -> Sequenced {
        let lsn = self.next.lsn;
        for placed in &accepted.placed {
            self.ahead.extend(placed.lane, placed.base.plus(u64::from(placed.record_count)), lsn);
        }
        let batches = append.parts.iter().zip(&accepted.placed).map(|(part, placed)| AppendedBatch {
            batch_index: placed.batch_index,
            topic: part.topic.clone(),
            lane: placed.lane,
            base: placed.base,
            record_count: placed.record_count,
            record_indexes: part.record_indexes.clone(),
        });
        let appended = Appended {
            batches: batches.collect(),
            duplicate: false,
            append_time_us: self.next.time_us,
            next_sequence: accepted.stamp.as_ref().map_or(0, |(_, stamp)| stamp.sequence + 1),
            lsn,
        };
        if let Some((producer, stamp)) = accepted.stamp {
            let (sequence, content_hash, time_us) = (stamp.sequence, append.content_hash, self.next.time_us);
            self.expiry.touch(producer, self.now_us);
            self.ahead.answer(producer, AnswerRow { sequence, content_hash, lsn, time_us, placed: accepted.placed });
        }
        self.frame(accepted.ops, Answer::to(reply, Ok(appended)), permit)
    }

    /// An answer that needs no frame: at once when what it rests on is published, otherwise behind it.
    fn follow(&self, pending: Pending) -> Option<Sequenced> {
        if pending.rests_on <= self.parts.marks.published.get() {
            pending.give();
            return None;
        }
        Some(Sequenced { frame: None, pending })
    }

    /// Remembers what operations will make so.
    fn look_ahead(&mut self, ops: &[Op]) {
        let Next { lsn, time_us, .. } = self.next;
        for op in ops {
            match op {
                Op::ProducerOpen(open) => {
                    if open.producer.0 >= self.next.producer {
                        self.next.producer = open.producer.0 + 1;
                        self.counts.producers += 1;
                    }
                    self.expiry.begin(open.producer, open.idle_expiry_us, self.now_us);
                    self.ahead.open_producer(open.producer, &open.name, open.epoch, lsn);
                }
                Op::TopicCreate(create) => {
                    self.next.topic = self.next.topic.max(create.topic.0 + 1);
                    let (id, name, config) = (create.topic, create.name.clone(), create.config);
                    self.counts.topics += 1;
                    self.counts.partitions += u64::from(config.partitions);
                    self.ahead.create_topic(TopicRow { id, name, config, created_us: time_us, deleted: None }, lsn);
                }
                Op::TopicDelete(topic) => {
                    let applied = self.parts.applied.read();
                    self.counts.cursors -= self.ahead.delete_topic(&applied, *topic, lsn);
                }
                Op::TopicForget(topic) => {
                    let applied = self.parts.applied.read();
                    if let Some(row) = applied.topics.get(topic).filter(|row| row.deleted.is_some()) {
                        self.counts.topics -= 1;
                        self.counts.partitions -= u64::from(row.config.partitions);
                    }
                }
                Op::Group(op) => self.look_ahead_group(op),
                Op::ProducerExpire(producer) => {
                    self.expiry.forget(*producer);
                    self.counts.producers -= 1;
                    if !cfg!(bug = "expiry_unseen") {
                        let applied = self.parts.applied.read();
                        self.ahead.forget_producer(&applied, *producer, lsn);
                    }
                }
                // Lanes and answers of an append are remembered with it.
                Op::Batch(_) | Op::Stamp(_) => {}
            }
        }
    }

    fn look_ahead_group(&mut self, op: &GroupOp) {
        let (Next { lsn, time_us, .. }, id) = (self.next, op.group());
        let applied = self.parts.applied.read();
        if let GroupOp::Commit { .. } = op {
            return self.ahead.change_group(&applied, op, time_us, lsn);
        }
        let size = |ahead: &Ahead, id: GroupId| {
            let row = ahead.group_by_id(&applied, id);
            row.map_or([0; 3], |row| [1, row.cursors.len() as u64, row.members.len() as u64])
        };
        let before = size(&self.ahead, id);
        self.ahead.change_group(&applied, op, time_us, lsn);
        let after = size(&self.ahead, id);
        let counts = [&mut self.counts.groups, &mut self.counts.cursors, &mut self.counts.members];
        for (count, (before, after)) in counts.into_iter().zip(before.into_iter().zip(after)) {
            *count = *count - before + after;
        }
        self.absence.look_again(id);
        self.next.group = self.next.group.max(id.0 + 1);
    }

    /// Numbers a frame.
    fn frame(&mut self, ops: Vec<Op>, answer: Answer, permit: Option<Permit>) -> Sequenced {
        self.look_ahead(&ops);
        let Next { lsn, time_us, position, .. } = self.next;
        let frame = Frame { lsn, time_us, position, ops };
        self.next.lsn = lsn.next();
        self.next.position = position + frame.record_count();
        if cfg!(bug = "checkpoint_ahead") {
            self.parts.applied.write().apply(&frame);
        }
        Sequenced { frame: Some(frame), pending: Pending { answer, permit, rests_on: lsn } }
    }

    /// The frame that forgets producers that were idle for longer than they said: as many as there are, or as fit.
    fn expire(&mut self) -> Option<Sequenced> {
        if self.expiry.due_us() > self.now_us {
            return None;
        }
        let fit = (self.parts.frame_bytes_max - FRAME_HEADER_BYTES) / (OP_HEADER_BYTES + 8);
        let over = self.expiry.over(self.now_us, EXPIRED_MAX.min(fit));
        let ops: Vec<Op> = over.into_iter().map(Op::ProducerExpire).collect();
        (!ops.is_empty()).then(|| self.frame(ops, Answer::nobody(), None))
    }

    /// The frame that takes partitions from a member that is away, or that does not give one back.
    fn free_overdue(&mut self) -> Option<Sequenced> {
        loop {
            let Some((group, request)) = self.overdue.pop_front() else {
                let applied = self.parts.applied.read();
                self.ahead.prune(applied.lsn);
                let view = View { applied: &applied, ahead: &self.ahead, lsn: self.next.lsn, counts: self.counts };
                let (group, over) = self.absence.over(view, self.now_us)?;
                self.overdue.extend(over.into_iter().map(|request| (group, request)));
                continue;
            };
            let Verdict::Write(ops, ()) = self.look(|view| groups::any(view, &request)) else { continue };
            if self.check_frame(&ops, Sized::RequestBytes).is_ok() {
                return Some(self.frame(ops, Answer::nobody(), None));
            }
            // It fits no frame now. Its timer has ended: another one begins, and it is tried again at its end.
            self.absence.look_again(group);
        }
    }

    /// Decides one request and hands its frame on; false when there is none that may be taken now.
    fn decide_next(&mut self, now: Now) -> bool {
        let sequenced = if let Some(own) = self.expire().or_else(|| self.free_overdue()) {
            Some(own)
        } else {
            let Some(Admitted { request, permit }) = self.take(now) else { return false };
            self.decide(request, permit)
        };
        if let Some(sequenced) = sequenced {
            let pushed = self.parts.outbox.push(sequenced);
            assert!(pushed.is_ok(), "the room was asked for before");
        }
        true
    }

    /// Writes are off: nothing of what waits here was written.
    fn drain(&mut self) -> Step {
        self.ahead.clear();
        self.overdue.clear();
        let Some(poisoned) = self.parts.poison.first() else { return Step::Poisoned };
        while let Some(admitted) = self.parts.controls.pop().or_else(|| self.parts.appends.pop()) {
            admitted.refuse(Refusal::Poisoned(poisoned.clone()));
        }
        Step::Poisoned
    }
}

impl Stage for Sequencer {
    fn name(&self) -> &'static str {
        "sequence"
    }

    fn bell(&self) -> &Bell {
        &self.parts.bell
    }

    fn step(&mut self, now: Now) -> Step {
        if self.parts.poison.is_set() {
            return self.drain();
        }
        // The frame carries the time that it was given here: the clock, but never below the frame before.
        if let Some(jump) = self.clock.look(now, self.next.time_us) {
            self.parts.notices.push(jump);
        }
        self.next.time_us = self.next.time_us.max(now.wall_us);
        self.now_us = now.mono_us;
        self.expiry.start(&self.parts.applied.read(), now.mono_us, self.next.time_us);
        let mut step = Step::Idle;
        // Everything that is here goes on at once: the group that the write stage puts together is then as large as the
        // load, and one sync acks all of it.
        while self.parts.outbox.has_room() && self.decide_next(now) {
            step = Step::Did;
        }
        // Nobody rings when what waits could only be refused.
        let waits = step == Step::Idle && !self.parts.appends.is_empty();
        match (step, self.absence.due_us().min(self.expiry.due_us())) {
            (Step::Idle, _) if waits => Step::Until(now.mono_us + LOOK_AGAIN_US),
            (Step::Idle, due_us) if due_us < u64::MAX => Step::Until(due_us),
            _ => step,
        }
    }
}
