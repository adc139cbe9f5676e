//! A consumer group in the workload: members come and go, cursors move with appends and alone, and whoever was fenced
//! tries again.
//!
//! What must hold over any crash (P5, P6): a cursor is where the newest append or commit that is in the log put it,
//! never below what was acked, never above the end; epochs only rise; and an epoch that has ended moves nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use tillroll_engine::{
    engine::Engine,
    error::Refusal,
    group::{BelowHead, GroupConfig, Join, Leave, LostWhy, Mode, NewGroup, Release, Rule, SetCursors},
    id::{Lane, Offset},
    request::{Append, CursorCommit, Start},
    table::group::GroupRow,
    ticket::Ticket,
};

use crate::{dice::Dice, ledger::Broken, world::World};

/// The group.
pub const GROUP: &str = "workers";
/// The topic that it reads.
const TOPIC: &str = "plain";

/// A move of a cursor that was asked for.
#[derive(Clone, Copy, Debug)]
struct Move {
    lane: Lane,
    next: Offset,
    /// The append that carries it; none: it went alone.
    append: Option<usize>,
    is_acked: bool,
}

/// What was asked of the group, and what was seen of it.
#[derive(Debug, Default)]
pub struct Members {
    is_created: bool,
    moves: Vec<Move>,
    alone: Vec<(usize, Ticket<()>)>,
    /// The highest epoch that was seen of each lane.
    pub epochs: BTreeMap<Lane, u64>,
    instances: u64,
}

impl Members {
    /// Creates the group. Ends early when the disk dies under it.
    pub fn prepare(&mut self, world: &mut World) -> Option<()> {
        let ticket = world.engine.create_group(new_group(GROUP, TOPIC));
        world.wait(&ticket)?.ok()?;
        self.is_created = true;
        Some(())
    }

    fn row(&mut self, engine: &Engine) -> Option<GroupRow> {
        let row = GroupRow::clone(&*engine.group(GROUP).ok()?);
        for (lane, cursor) in &row.cursors {
            let seen = self.epochs.entry(*lane).or_default();
            *seen = cursor.epoch.max(*seen);
        }
        Some(row)
    }

    /// A member joins, leaves, is taken over, or gives back what it was asked for.
    pub fn churn(&mut self, world: &mut World, dice: &mut Dice) {
        let Some(row) = self.row(&world.engine) else { return };
        let member = format!("m-{}", dice.below(3));
        let (group, known) = (GROUP.to_owned(), row.members.get(&member));
        match known {
            Some(known) if dice.one_in(2) => {
                let (instance, why) = (known.instance.clone(), LostWhy::Left);
                let ticket = world.engine.leave(Leave { group, member, instance, why });
                world.wait(&ticket);
            }
            _ => {
                self.instances += 1;
                let instance = format!("i-{}", self.instances);
                let ticket =
                    world.engine.join(Join { group, member, instance, client: String::new(), comes_back: false });
                world.wait(&ticket);
            }
        }
        let held = row.cursors.iter().filter(|(_, cursor)| cursor.is_draining).map(|(lane, at)| (*lane, at.epoch));
        let release =
            Release { group: GROUP.to_owned(), held: held.collect(), commits: Vec::new(), why: LostWhy::Released };
        if !release.held.is_empty() {
            let ticket = world.engine.release(release);
            world.wait(&ticket);
        }
    }

    /// A commit for a partition that somebody holds, and where it leads; none when nothing can move.
    fn next_commit(&mut self, engine: &Engine, dice: &mut Dice) -> Option<(Lane, CursorCommit)> {
        let row = self.row(engine)?;
        let held: Vec<_> = row.cursors.iter().filter(|(_, cursor)| cursor.holder.is_some()).collect();
        let place = usize::try_from(dice.below(held.len().max(1) as u64)).expect("small");
        let (lane, cursor) = held.get(place)?;
        let asked = self.moves.iter().filter(|asked| asked.lane == **lane).map(|asked| asked.next).max();
        let (from, end) = (asked.unwrap_or_default().max(cursor.next), engine.extent(**lane).ok()?.end);
        let next = Offset(from.0 + 1 + dice.below(3));
        (next <= end).then(|| (**lane, commit(**lane, next, cursor.epoch)))
    }

    /// Adds a cursor commit to an append.
    pub fn join_append(&mut self, engine: &Engine, dice: &mut Dice, number: usize, append: &mut Append) {
        if let Some((lane, commit)) = self.next_commit(engine, dice) {
            self.moves.push(Move { lane, next: commit.next, append: Some(number), is_acked: false });
            append.commits.push(commit);
        }
    }

    /// Moves a cursor alone.
    pub fn commit(&mut self, engine: &Engine, dice: &mut Dice) {
        if let Some((lane, commit)) = self.next_commit(engine, dice) {
            self.alone.push((self.moves.len(), engine.commit_cursors(vec![commit.clone()])));
            self.moves.push(Move { lane, next: commit.next, append: None, is_acked: false });
        }
    }

    /// Whoever held a partition before tries to move its cursor on.
    pub fn commit_fenced(&mut self, world: &mut World) -> Result<(), Broken> {
        let Some(row) = self.row(&world.engine) else { return Ok(()) };
        for (lane, cursor) in &row.cursors {
            let Some(ended) = self.epochs[lane].min(cursor.epoch).checked_sub(1) else { continue };
            let ticket = world.engine.commit_cursors(vec![commit(*lane, cursor.next, ended)]);
            if let Some(Ok(())) = world.wait(&ticket) {
                return Err(format!("P6 lane {lane}: a commit under the ended epoch {ended} was accepted"));
            }
        }
        Ok(())
    }

    /// Sets a cursor to where it is: nothing moves, whoever holds the partition loses it.
    pub fn set(&mut self, world: &mut World) {
        let Some(row) = self.row(&world.engine) else { return };
        let Some((lane, cursor)) = row.cursors.first_key_value() else { return };
        let (group, topic, reason) = (GROUP.to_owned(), TOPIC.to_owned(), "a test".to_owned());
        let set = SetCursors {
            group,
            topic,
            to: vec![(lane.partition, cursor.next)],
            dry_run: false,
            with_members: true,
            reason,
        };
        // A commit that is on its way may be ahead of what is applied: the set would take it back.
        if self.moves.iter().all(|asked| asked.lane != *lane || asked.next <= cursor.next) {
            let ticket = world.engine.set_cursors(set);
            world.wait(&ticket);
        }
    }

    /// Takes the answers that are there. `acked` says whether an append is.
    pub fn collect(&mut self, acked: impl Fn(usize) -> bool) {
        for (place, ticket) in &self.alone {
            if let Some(Ok(())) = ticket.try_take() {
                self.moves[*place].is_acked = true;
            }
        }
        for asked in &mut self.moves {
            asked.is_acked |= asked.append.is_some_and(&acked);
        }
    }

    /// The process is gone, and with it who waits for an answer.
    pub fn crash(&mut self) {
        self.alone.clear();
    }

    /// Holds the group against what was asked. `is_present` says whether an append is in the log.
    pub fn check(&mut self, engine: &Engine, is_present: impl Fn(usize) -> bool) -> Result<(), Broken> {
        if !self.is_created {
            return Ok(());
        }
        let seen = self.epochs.clone();
        let row = self.row(engine).ok_or_else(|| format!("P6 group {GROUP} was created, acked, and is gone"))?;
        for (lane, cursor) in &row.cursors {
            let (next, end) = (cursor.next, engine.extent(*lane).map_err(|fault| fault.to_string())?.end);
            if next > end {
                return Err(format!("P6 lane {lane}: the cursor is at {next}, the end at {end}"));
            }
            let before = seen.get(lane).copied().unwrap_or(0);
            if cursor.epoch < before {
                return Err(format!("P6 lane {lane}: the epoch was {before} and is {}", cursor.epoch));
            }
            let moves = || self.moves.iter().filter(|asked| asked.lane == *lane);
            if let Some(lost) = moves().find(|asked| asked.is_acked && asked.next > next) {
                return Err(format!("P6 lane {lane}: the cursor was acked at {}, and is at {next}", lost.next));
            }
            let carried = |asked: &&Move| asked.append.is_some_and(&is_present);
            if let Some(torn) = moves().filter(carried).find(|asked| asked.next > next) {
                return Err(format!("P5 append {:?} is there, its cursor commit is not", torn.append));
            }
            let made = moves().any(|asked| asked.next == next && asked.append.is_none_or(&is_present));
            if next > Offset(0) && !made {
                return Err(format!("P5 lane {lane}: nothing in the log has moved the cursor to {next}"));
            }
        }
        Ok(())
    }
}

/// A group of members that reads one topic from its beginning.
pub fn new_group(name: &str, topic: &str) -> NewGroup {
    let config = GroupConfig {
        mode: Mode::Members,
        rule: Some(Rule::Spread),
        start: Start::Earliest,
        below_head: BelowHead::Fail,
        session_ms: 10_000,
        drain_ms: 30_000,
    };
    NewGroup { name: name.to_owned(), topics: vec![topic.to_owned()], config }
}

fn commit(lane: Lane, next: Offset, epoch: u64) -> CursorCommit {
    CursorCommit {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        partition: lane.partition,
        next,
        epoch: Some(epoch),
        expected: None,
        metadata: Bytes::new(),
    }
}

/// Whether an append was refused for its cursor commit, which another one may have overtaken.
pub fn is_of_cursor(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::CursorRefused { .. })
}
