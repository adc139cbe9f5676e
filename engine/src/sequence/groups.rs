//! Decisions about consumer groups: who may move which cursor, and what a join, a leave or a release changes.
//!
//! Every decision is a list of operations made on a copy of the group's row, one after the other, by the function that
//! also applies them: what follows from the first ones (who gets the partition that was given back) sees them done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    admit::{GroupRequest, check_name, no_group, not_found},
    error::{CursorFault, CursorPlace, CursorWhy, Difference, Refusal},
    group::{CursorMove, GroupChange, Join, Joined, Leave, LostWhy, Mode, NewGroup, Release, Rule, SetCursors},
    id::{GroupId, Lane, Lsn, Offset, Partition, TopicId},
    journal::{
        group_op::{GroupCreate, GroupOp, GroupSettings},
        op::Op,
    },
    limits,
    request::{CursorCommit, HeldAssignment},
    sequence::{decide::View, registry::Verdict, share::share},
    table::{group::GroupRow, row::TopicRow},
};

type Refused = (Refusal, Lsn);

/// A group's row on which operations are tried.
struct Draft {
    row: GroupRow,
    ops: Vec<GroupOp>,
    /// The frame that the operations become, and so every epoch that begins with them.
    lsn: Lsn,
}

impl Draft {
    fn of(row: &Arc<GroupRow>, lsn: Lsn) -> Self {
        Self { row: GroupRow::clone(row), ops: Vec::new(), lsn }
    }

    fn push(&mut self, op: GroupOp) {
        self.row.apply(&op, self.lsn, 0);
        self.ops.push(op);
    }

    /// Takes a partition from whoever holds it.
    fn free(&mut self, lane: Lane, why: LostWhy) {
        let Some(cursor) = self.row.cursors.get(&lane).filter(|cursor| cursor.holder.is_some()) else { return };
        let (group, epoch) = (self.row.id, cursor.epoch);
        self.push(GroupOp::Assign { group, lane, epoch, holder: None, is_draining: false, lost: Some(why) });
    }

    fn held_by(&self, member: &str) -> Vec<Lane> {
        let cursors = self.row.cursors.iter();
        cursors.filter(|(_, cursor)| cursor.holder.as_deref() == Some(member)).map(|(lane, _)| *lane).collect()
    }

    /// What follows for the members that are left.
    fn finish(mut self) -> Vec<Op> {
        for op in share(&self.row, self.lsn) {
            self.push(op);
        }
        self.ops.into_iter().map(Op::Group).collect()
    }
}

fn found<'a>(view: View<'a>, name: &str) -> Result<(&'a Arc<GroupRow>, Lsn), Refused> {
    let (row, rests_on) = view.ahead.group(view.applied, name);
    row.map(|row| (row, rests_on)).ok_or_else(|| (no_group(name), rests_on))
}

fn topic_row<'a>(view: View<'a>, name: &str) -> Result<(&'a TopicRow, Lsn), Refused> {
    let (row, rests_on) = view.ahead.topic(view.applied, name);
    row.map(|row| (row, rests_on)).ok_or_else(|| (not_found(name), rests_on))
}

/// The lane of a group that a topic's name and a partition are. `known` is the frame that the group rests on.
fn lane_of(
    view: View<'_>,
    (group, known): (&GroupRow, Lsn),
    name: &str,
    partition: Partition,
) -> Result<Lane, Refused> {
    let (topic, named) = topic_row(view, name)?;
    let (count, rests_on) = (topic.config.partitions, named.max(known));
    if partition.0 >= count {
        return Err((Refusal::PartitionNotFound { topic: name.to_owned(), partition, count }, rests_on));
    }
    let lane = Lane { topic: topic.id, partition };
    if group.topic(name) == Some(topic.id) && group.cursors.contains_key(&lane) {
        return Ok(lane);
    }
    // It reads another topic of that name, which is gone, or none.
    Err((Refusal::StartRequired { group: group.name.clone(), topic: name.to_owned() }, rests_on))
}

/// Says no, or goes on.
macro_rules! or_say {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err((refusal, rests_on)) => return Verdict::Say(Err(refusal), rests_on),
        }
    };
}

/// Whatever is answered with done or not.
pub(super) fn any(view: View<'_>, request: &GroupRequest) -> Verdict<()> {
    match request {
        GroupRequest::Delete { name, with_members } => delete(view, name, *with_members),
        GroupRequest::Change(asked) => change(view, asked),
        GroupRequest::Commit(commits) => commit(view, commits),
        GroupRequest::Release(asked) => release(view, asked),
        GroupRequest::Leave(asked) => leave(view, asked),
    }
}

/// Creates a group, or finds it standing with the same configuration. `starts` are the cursors of its topics, looked up
/// before.
pub(super) fn create(
    view: View<'_>,
    new: &NewGroup,
    starts: &[(Lane, Offset)],
    next_id: u64,
) -> Verdict<(GroupId, bool)> {
    let say = |refusal| Verdict::Say(Err(refusal), Lsn(0));
    if let Err(refusal) = check_new(new) {
        return say(refusal);
    }
    let (mut topics, mut named) = (Vec::new(), Lsn(0));
    for name in &new.topics {
        let (topic, rests_on) = or_say!(topic_row(view, name));
        topics.push((topic.id, name.clone(), topic.config.partitions));
        named = named.max(rests_on);
    }
    if let Err(refusal) = check_partitions(new.config.rule, topics.iter().map(|topic| (topic.1.as_str(), topic.2))) {
        return Verdict::Say(Err(refusal), named);
    }
    let (found, rests_on) = view.ahead.group(view.applied, &new.name);
    if let Some(row) = found {
        let differences = differences(row, new);
        let answer = if differences.is_empty() {
            Ok((row.id, false))
        } else {
            Err(Refusal::GroupExists { group: new.name.clone(), differences })
        };
        return Verdict::Say(answer, rests_on);
    }
    if view.counts.groups >= limits::GROUPS_MAX as u64 {
        return say(Refusal::GroupsFull { limit: limits::GROUPS_MAX as u64 });
    }
    if let Err(refusal) = check_cursors(view, topics.iter().map(|topic| u64::from(topic.2)).sum()) {
        return say(refusal);
    }
    let starts: BTreeMap<Lane, Offset> = starts.iter().copied().collect();
    let known = |lane: &Lane| starts.get(lane).copied().unwrap_or_default();
    let cursors = topics.iter().flat_map(|(topic, _, partitions)| lanes(*topic, *partitions));
    let id = GroupId(next_id);
    let create = GroupCreate {
        group: id,
        name: new.name.clone(),
        config: new.config.clone(),
        cursors: cursors.map(|lane| (lane, known(&lane))).collect(),
        topics: topics.into_iter().map(|(id, name, _)| (id, name)).collect(),
    };
    Verdict::Write(vec![Op::Group(GroupOp::Create(create))], (id, true))
}

/// Whether so many cursors more may be.
fn check_cursors(view: View<'_>, more: u64) -> Result<(), Refusal> {
    let (limit, actual) = (limits::CURSORS_ALL_MAX, view.counts.cursors + more);
    if actual <= limit { Ok(()) } else { Err(Refusal::GroupRowsFull { what: "cursors", limit, actual }) }
}

fn lanes(topic: TopicId, partitions: u32) -> impl Iterator<Item = Lane> {
    (0..partitions).map(move |partition| Lane { topic, partition: Partition(partition) })
}

/// What can be said of a new group without looking at anything else.
pub(crate) fn check_new(new: &NewGroup) -> Result<(), Refusal> {
    check_name("name", &new.name)?;
    let config = &new.config;
    let within = |field, [min, _, max]: [u32; 3], actual: u32| {
        let refusal = Refusal::SettingOutOfRange { field, min: min.into(), max: max.into(), actual: actual.into() };
        if (min..=max).contains(&actual) { Ok(()) } else { Err(refusal) }
    };
    if (config.mode == Mode::Members) != config.rule.is_some() {
        let wrong = "is required of a group with members, and a manual group has none";
        return Err(Refusal::GroupConfigInvalid { field: "config.rule", wrong: wrong.into() });
    }
    let distinct: BTreeSet<&String> = new.topics.iter().collect();
    if new.topics.is_empty() || distinct.len() < new.topics.len() {
        return Err(Refusal::GroupConfigInvalid {
            field: "config.topics",
            wrong: "names each topic once, at least one".into(),
        });
    }
    let (max, actual) = (limits::GROUP_TOPICS_MAX as u64, new.topics.len() as u64);
    if actual > max {
        return Err(Refusal::SettingOutOfRange { field: "config.topics", min: 1, max, actual });
    }
    within("config.session_ms", limits::SESSION_MS, config.session_ms)?;
    within("config.drain_ms", limits::DRAIN_MS, config.drain_ms)
}

/// Whether a group may read topics with so many partitions.
pub(crate) fn check_partitions<'a>(
    rule: Option<Rule>,
    counts: impl Iterator<Item = (&'a str, u32)>,
) -> Result<(), Refusal> {
    let counts: Vec<_> = counts.collect();
    if rule == Some(Rule::CoPartitioned) && counts.windows(2).any(|two| two[0].1 != two[1].1) {
        let listed: Vec<_> = counts.iter().map(|(topic, count)| format!("{topic} has {count}")).collect();
        let wrong = format!("CO_PARTITIONED needs topics with equally many partitions: {}", listed.join(", "));
        return Err(Refusal::GroupConfigInvalid { field: "config.topics", wrong: wrong.into() });
    }
    let all: u64 = counts.iter().map(|(_, count)| u64::from(*count)).sum();
    let max = limits::GROUP_PARTITIONS_MAX as u64;
    if all <= max { Ok(()) } else { Err(Refusal::SettingOutOfRange { field: "partitions", min: 1, max, actual: all }) }
}

fn differences(has: &GroupRow, asked: &NewGroup) -> Vec<Difference> {
    let names: Vec<&str> = has.topics.iter().map(|(_, name)| name.as_str()).collect();
    let (one, other) = (&has.config, &asked.config);
    let fields = [
        ("topics", names.join(" "), asked.topics.join(" ")),
        ("mode", one.mode.to_string(), other.mode.to_string()),
        ("rule", rule_name(one.rule), rule_name(other.rule)),
        ("start", one.start.to_string(), other.start.to_string()),
        ("below_head", one.below_head.to_string(), other.below_head.to_string()),
        ("session_ms", one.session_ms.to_string(), other.session_ms.to_string()),
        ("drain_ms", one.drain_ms.to_string(), other.drain_ms.to_string()),
    ];
    let differ = fields.into_iter().filter(|(_, has, asked)| has != asked);
    differ.map(|(field, has, asked)| Difference { field, has, asked }).collect()
}

fn rule_name(rule: Option<Rule>) -> String {
    rule.map_or_else(|| "none".to_owned(), |rule| rule.to_string())
}

/// Deletes a group; with members only when that is said.
fn delete(view: View<'_>, name: &str, with_members: bool) -> Verdict<()> {
    let (row, rests_on) = or_say!(found(view, name));
    if !with_members && !row.members.is_empty() {
        return Verdict::Say(Err(has_members(row)), rests_on);
    }
    Verdict::Write(vec![Op::Group(GroupOp::Delete(row.id))], ())
}

fn has_members(row: &GroupRow) -> Refusal {
    Refusal::GroupHasMembers { group: row.name.clone(), members: row.members.keys().cloned().collect() }
}

/// Changes a group's settings.
fn change(view: View<'_>, change: &GroupChange) -> Verdict<()> {
    let (row, rests_on) = or_say!(found(view, &change.group));
    if let Some(version) = change.version.filter(|version| *version != row.version) {
        let refusal = Refusal::GroupChanged { group: row.name.clone(), expected: version, actual: row.version };
        return Verdict::Say(Err(refusal), rests_on);
    }
    let mut topics = Vec::new();
    for name in &change.add_topics {
        let (topic, _) = or_say!(topic_row(view, name));
        if row.topic(name) != Some(topic.id) {
            topics.push((topic.id, name.clone(), topic.config.partitions));
        }
    }
    // A topic that was made anew takes the place of the one that had its name.
    let stays = row.topics.iter().filter(|(_, name)| topics.iter().all(|(_, new, _)| new != name));
    let stays = stays.filter_map(|(id, name)| Some((name.as_str(), view.applied.topics.get(id)?.config.partitions)));
    let counts = stays.chain(topics.iter().map(|topic| (topic.1.as_str(), topic.2)));
    if let Err(refusal) = check_partitions(row.config.rule, counts) {
        return Verdict::Say(Err(refusal), rests_on);
    }
    if let Err(refusal) = check_cursors(view, topics.iter().map(|topic| u64::from(topic.2)).sum()) {
        return Verdict::Say(Err(refusal), rests_on);
    }
    let paused = match change.paused {
        Some(true) => Some(change.pause_reason.clone()),
        Some(false) => None,
        None => row.paused.clone(),
    };
    let below_head = change.below_head.unwrap_or(row.config.below_head);
    let mut draft = Draft::of(row, view.lsn);
    draft.push(GroupOp::Change(GroupSettings { group: row.id, paused, below_head, topics }));
    Verdict::Write(draft.finish(), ())
}

/// Sets cursors, anywhere up to the published end. A dry run takes nothing from members, and answers also when they
/// would have to be asked.
pub(super) fn set_cursors(view: View<'_>, set: &SetCursors) -> Verdict<Vec<CursorMove>> {
    let (row, rests_on) = or_say!(found(view, &set.group));
    let (mut moves, mut draft) = (Vec::new(), Draft::of(row, view.lsn));
    if set.to.iter().map(|(partition, _)| partition).collect::<BTreeSet<_>>().len() < set.to.len() {
        let wrong = "names a partition twice; name each once";
        return Verdict::Say(Err(Refusal::GroupConfigInvalid { field: "partitions", wrong: wrong.into() }), rests_on);
    }
    for (partition, next) in &set.to {
        let lane = or_say!(lane_of(view, (row, rests_on), &set.topic, *partition));
        let Some(cursor) = row.cursors.get(&lane) else { continue };
        if cursor.holder.is_some() && !set.with_members && !set.dry_run {
            return Verdict::Say(Err(has_members(row)), rests_on);
        }
        // It was looked up before; the topic may have been made anew since.
        let end = view.applied.lanes.get(&lane).map_or(Offset(0), |lane| lane.end);
        if *next > end {
            let (topic, partition, most) = (set.topic.clone(), *partition, Some(end));
            let refusal = Refusal::StartOutOfRange { topic, partition, asked: *next, least: Offset(0), most };
            return Verdict::Say(Err(refusal), rests_on);
        }
        moves.push(CursorMove { partition: *partition, from: cursor.next, to: *next });
        let (epoch, reason) = (view.lsn.get(), set.reason.clone());
        draft.push(GroupOp::Set { group: row.id, lane, next: *next, epoch, reason });
    }
    if set.dry_run { Verdict::Say(Ok(moves), rests_on) } else { Verdict::Write(draft.finish(), moves) }
}

/// A member joins, comes back, or is taken over by another process.
pub(super) fn join(view: View<'_>, join: &Join) -> Verdict<Joined> {
    let (row, rests_on) = or_say!(found(view, &join.group));
    if row.config.mode == Mode::Manual {
        let wrong = "is MANUAL: it has no members; read with start.group and commit by compare and set";
        let refusal = Refusal::GroupConfigInvalid { field: "config.mode", wrong: wrong.into() };
        return Verdict::Say(Err(refusal), rests_on);
    }
    if let Err(refusal) = check_name("member_id", &join.member).and_then(|()| check_name("instance_id", &join.instance))
    {
        return Verdict::Say(Err(refusal), rests_on);
    }
    let config = &row.config;
    let joined = |resumed| Joined { resumed, session_ms: config.session_ms, drain_ms: config.drain_ms };
    let known = row.members.get(&join.member);
    if known.is_some_and(|member| member.instance == join.instance) {
        return Verdict::Say(Ok(joined(true)), rests_on);
    }
    if known.is_some() && join.comes_back {
        // The older process would take back what the newer one has, and end it.
        let (group, member) = (row.name.clone(), join.member.clone());
        return Verdict::Say(Err(Refusal::TakenOver { group, member }), rests_on);
    }
    if known.is_none() && row.members.len() >= limits::MEMBERS_MAX {
        let limit = limits::MEMBERS_MAX as u64;
        return Verdict::Say(Err(Refusal::GroupFull { group: row.name.clone(), limit }), rests_on);
    }
    let (limit, actual) = (limits::MEMBERS_ALL_MAX, view.counts.members + 1);
    if known.is_none() && actual > limit {
        return Verdict::Say(Err(Refusal::GroupRowsFull { what: "members", limit, actual }), rests_on);
    }
    let mut draft = Draft::of(row, view.lsn);
    let (member, instance, client) = (join.member.clone(), join.instance.clone(), join.client.clone());
    draft.push(GroupOp::Member { group: row.id, member, instance, client });
    for lane in draft.held_by(&join.member) {
        take_over(&mut draft, lane, &join.member);
    }
    Verdict::Write(draft.finish(), joined(false))
}

/// The new process has what the old one had, under new epochs; what was asked back is free.
fn take_over(draft: &mut Draft, lane: Lane, member: &str) {
    let Some(cursor) = draft.row.cursors.get(&lane) else { return };
    if cursor.is_draining {
        return draft.free(lane, LostWhy::TakenOver);
    }
    let (group, epoch, holder) = (draft.row.id, draft.lsn.get(), Some(member.to_owned()));
    let lost = Some(LostWhy::TakenOver);
    draft.push(GroupOp::Assign { group, lane, epoch, holder, is_draining: false, lost });
}

/// A member's end. One that is not a member any more, or is another process by now, has ended already.
fn leave(view: View<'_>, leave: &Leave) -> Verdict<()> {
    let (row, rests_on) = or_say!(found(view, &leave.group));
    if row.members.get(&leave.member).is_none_or(|member| member.instance != leave.instance) {
        return Verdict::Say(Ok(()), rests_on);
    }
    let mut draft = Draft::of(row, view.lsn);
    for lane in draft.held_by(&leave.member) {
        draft.free(lane, leave.why);
    }
    draft.push(GroupOp::MemberGone { group: row.id, member: leave.member.clone() });
    Verdict::Write(draft.finish(), ())
}

/// Partitions given back, with their last cursor commits. What is not held under that epoch any more is left alone.
fn release(view: View<'_>, release: &Release) -> Verdict<()> {
    let (row, rests_on) = or_say!(found(view, &release.group));
    let commits = or_say!(commits(view, &release.commits));
    let mut draft = Draft::of(row, view.lsn);
    for op in commits {
        draft.push(op);
    }
    for (lane, epoch) in &release.held {
        if row.cursors.get(lane).is_some_and(|cursor| cursor.is_held(*epoch)) {
            draft.free(*lane, release.why);
        }
    }
    let ops = draft.finish();
    if ops.is_empty() { Verdict::Say(Ok(()), rests_on) } else { Verdict::Write(ops, ()) }
}

/// Cursor commits alone, all or nothing.
fn commit(view: View<'_>, asked: &[CursorCommit]) -> Verdict<()> {
    let ops = or_say!(commits(view, asked));
    if ops.is_empty() {
        // Nothing moves. What it rests on may be on its way all the same.
        let rests_on = asked.iter().map(|commit| view.ahead.group(view.applied, &commit.group).1).max();
        return Verdict::Say(Ok(()), rests_on.unwrap_or(Lsn(0)));
    }
    Verdict::Write(ops.into_iter().map(Op::Group).collect(), ())
}

/// What cursor commits and held assignments come to.
pub(super) struct Judged {
    /// What moves, when nothing is wrong.
    pub(super) ops: Vec<GroupOp>,
    /// All that is wrong: first what is not held, then what may not move.
    pub(super) faults: Vec<CursorFault>,
    /// The newest frame that this rests on.
    pub(super) rests_on: Lsn,
}

/// The operations of cursor commits alone, or all that is wrong with them.
fn commits(view: View<'_>, asked: &[CursorCommit]) -> Result<Vec<GroupOp>, Refused> {
    let Judged { ops, faults, rests_on } = judge_all(view, asked, &[])?;
    let refusal = |faults| Refusal::CursorRefused { faults, checks: Vec::new() };
    if faults.is_empty() { Ok(ops) } else { Err((refusal(faults), rests_on)) }
}

/// Judges cursor commits and held assignments: that everything is held, and where cursors may go.
pub(super) fn judge_all(
    view: View<'_>,
    asked: &[CursorCommit],
    held: &[(usize, &HeldAssignment)],
) -> Result<Judged, Refused> {
    let (mut fenced, mut misplaced, mut rests) = (Vec::new(), Vec::new(), Lsn(0));
    let mut ops: Vec<GroupOp> = Vec::new();
    // Where the commits of this request move cursors to.
    let mut moved: BTreeMap<(GroupId, Lane), Offset> = BTreeMap::new();
    for (index, commit) in asked.iter().enumerate() {
        let (row, rests_on) = found(view, &commit.group)?;
        rests = rests.max(rests_on);
        let lane = lane_of(view, (row, rests_on), &commit.topic, commit.partition)?;
        let fault = |why| CursorFault {
            place: CursorPlace::Commit(index),
            group: commit.group.clone(),
            topic: commit.topic.clone(),
            partition: commit.partition,
            why,
        };
        let stands = || row.cursors.get(&lane).map_or(Offset(0), |cursor| cursor.next);
        let now = moved.get(&(row.id, lane)).copied().unwrap_or_else(stands);
        match judge(view, row, lane, commit, now) {
            Ok(true) => {
                // Copied: it lies in the whole request, which the cursor would keep.
                let (group, next, metadata) = (row.id, commit.next, Bytes::copy_from_slice(&commit.metadata));
                moved.insert((group, lane), next);
                ops.push(GroupOp::Commit { group, lane, next, metadata });
            }
            Ok(false) => {}
            Err(why @ (CursorWhy::Fenced { .. } | CursorWhy::EpochRequired)) => fenced.push(fault(why)),
            Err(why) => misplaced.push(fault(why)),
        }
    }
    for (index, check) in held {
        let (row, rests_on) = found(view, &check.group)?;
        rests = rests.max(rests_on);
        let lane = lane_of(view, (row, rests_on), &check.topic, check.partition)?;
        if let Err(why) = holds(row, lane, check.epoch) {
            let (group, topic, partition) = (check.group.clone(), check.topic.clone(), check.partition);
            fenced.push(CursorFault { place: CursorPlace::Check(*index), group, topic, partition, why });
        }
    }
    // A member that has lost a partition stops; whatever else is wrong, it has no say in it.
    fenced.append(&mut misplaced);
    Ok(Judged { ops, faults: fenced, rests_on: rests })
}

fn holds(row: &GroupRow, lane: Lane, epoch: u64) -> Result<(), CursorWhy> {
    match row.cursors.get(&lane) {
        Some(cursor) if cursor.is_held(epoch) => Ok(()),
        other => Err(CursorWhy::Fenced {
            epoch,
            current: other.map_or(0, |cursor| cursor.epoch),
            holder: other.and_then(|cursor| cursor.holder.clone()),
        }),
    }
}

/// Whether a cursor may go where it is asked to, and whether that moves it.
fn judge(view: View<'_>, row: &GroupRow, lane: Lane, commit: &CursorCommit, now: Offset) -> Result<bool, CursorWhy> {
    match (row.config.mode, commit.epoch, commit.expected) {
        (Mode::Members, None, _) => return Err(CursorWhy::EpochRequired),
        (Mode::Members, Some(_), _) if cfg!(bug = "any_epoch") => {}
        (Mode::Members, Some(epoch), _) => holds(row, lane, epoch)?,
        (Mode::Manual, _, None) => return Err(CursorWhy::ExpectedRequired),
        (Mode::Manual, _, Some(_)) => {}
    }
    if let Some(expected) = commit.expected.filter(|expected| *expected != now) {
        return Err(CursorWhy::Elsewhere { expected, actual: now });
    }
    if commit.next < now {
        return Err(CursorWhy::Backwards { asked: commit.next, current: now });
    }
    let end = view.applied.lanes.get(&lane).map_or(Offset(0), |lane| lane.end);
    if commit.next > end {
        return Err(CursorWhy::BeyondEnd { asked: commit.next, end });
    }
    Ok(commit.next > now)
}
