//! What callers may ask about consumer groups.

use std::sync::Arc;

use super::Engine;
use crate::{
    admit::{self, GroupRequest, Request},
    commit::watch::Changed,
    error::{ReadFault, Refusal},
    group::{CursorMove, GroupChange, Join, Joined, Leave, NewGroup, Release, SetCursors},
    id::{GroupId, Lane, Lsn, Offset, Partition},
    limits,
    presence::{Attendance, Who},
    request::{CursorCommit, Start},
    sequence::groups,
    table::group::GroupRow,
    ticket::Ticket,
};

impl Engine {
    /// A consumer group as it stands.
    pub fn group(&self, name: &str) -> Result<Arc<GroupRow>, Refusal> {
        let found = self.parts.applied.read().group(name).cloned();
        found.ok_or_else(|| self.with_similar(admit::no_group(name)))
    }

    /// A consumer group by its id.
    pub fn group_of(&self, id: GroupId) -> Option<Arc<GroupRow>> {
        self.parts.applied.read().groups.get(&id).cloned()
    }

    /// Consumer groups, sorted by name, behind `after`, at most `count`.
    pub fn groups(&self, after: Option<&str>, count: usize) -> Vec<Arc<GroupRow>> {
        let applied = self.parts.applied.read();
        let from = applied.group_names.range(after.unwrap_or_default().to_owned()..);
        let from = from.filter(|(name, _)| Some(name.as_str()) != after).take(count);
        from.filter_map(|(_, id)| applied.groups.get(id).cloned()).collect()
    }

    /// Resolves with the frame that changed a group, once that is a later one than `seen`. Cursor commits change
    /// nothing here.
    pub fn group_changed(&self, group: GroupId, seen: Lsn) -> Changed {
        self.parts.watch.changed(group, seen)
    }

    /// Creates a group, or finds it standing with the same configuration: its id, and whether it is new. Blocks on the
    /// disk when its start is a time.
    pub fn create_group(&self, new: NewGroup) -> Ticket<(GroupId, bool)> {
        match self.starts(&new) {
            Ok(starts) => self.control(|reply| Request::CreateGroup(new, starts, reply)),
            Err(refusal) => Ticket::resolved(Err(refusal)),
        }
    }

    /// Where the cursors of a new group begin.
    fn starts(&self, new: &NewGroup) -> Result<Vec<(Lane, Offset)>, Refusal> {
        let mut starts = Vec::new();
        // What is not allowed is refused before it is looked up; all of it is decided again, in order, by `sequence`.
        groups::check_new(new)?;
        let topics = new.topics.iter().map(|name| self.topic(name)).collect::<Result<Vec<_>, _>>()?;
        let partitions = topics.iter().map(|topic| (topic.name.as_str(), topic.config.partitions));
        groups::check_partitions(new.config.rule, partitions)?;
        for (name, topic) in new.topics.iter().zip(topics) {
            for partition in (0..topic.config.partitions).map(Partition) {
                let lane = Lane { topic: topic.id, partition };
                let start = self.find(lane, new.config.start);
                let start = start.map_err(|fault| self.no_start(name, partition, new.config.start, &fault))?;
                starts.push((lane, start));
            }
        }
        Ok(starts)
    }

    fn no_start(&self, topic: &str, partition: Partition, start: Start, fault: &ReadFault) -> Refusal {
        match (fault, start) {
            (ReadFault::TopicNotFound { .. }, _) => self.with_similar(admit::not_found(topic)),
            (ReadFault::BelowHead { head, .. }, Start::Offset(asked)) => {
                Refusal::StartOutOfRange { topic: topic.to_owned(), partition, asked, least: *head, most: None }
            }
            (ReadFault::BeyondEnd { end, .. }, Start::Offset(asked)) => {
                let most = Some(*end);
                Refusal::StartOutOfRange { topic: topic.to_owned(), partition, asked, least: Offset(0), most }
            }
            (other, _) => Refusal::StartUnreadable { topic: topic.to_owned(), partition, cause: other.to_string() },
        }
    }

    /// Deletes a group with its cursors.
    pub fn delete_group(&self, name: &str, with_members: bool) -> Ticket<()> {
        self.ask(GroupRequest::Delete { name: name.to_owned(), with_members })
    }

    /// Changes a group's settings.
    pub fn change_group(&self, change: GroupChange) -> Ticket<()> {
        if let Err(refusal) = check_text("pause_reason", &change.pause_reason, limits::REASON_BYTES_MAX) {
            return Ticket::resolved(Err(refusal));
        }
        self.ask(GroupRequest::Change(change))
    }

    /// Moves cursors, all or nothing.
    pub fn commit_cursors(&self, commits: Vec<CursorCommit>) -> Ticket<()> {
        match admit::check_commits(&commits) {
            Ok(()) => self.ask(GroupRequest::Commit(commits)),
            Err(refusal) => Ticket::resolved(Err(refusal)),
        }
    }

    /// Sets cursors, also backwards: whoever holds their partitions loses them.
    pub fn set_cursors(&self, set: SetCursors) -> Ticket<Vec<CursorMove>> {
        if let Err(refusal) = check_text("reason", &set.reason, limits::REASON_BYTES_MAX) {
            return Ticket::resolved(Err(refusal));
        }
        self.control(|reply| Request::SetCursors(set, reply))
    }

    /// Makes a process a member. When this answers, every older process of that member is fenced, durably.
    pub fn join(&self, join: Join) -> Ticket<Joined> {
        if let Err(refusal) = check_text("client", &join.client, limits::CLIENT_BYTES_MAX) {
            return Ticket::resolved(Err(refusal));
        }
        self.control(|reply| Request::Join(join, reply))
    }

    /// A process of a member has a stream open until the answer is dropped; for its session after that, its partitions
    /// wait for it. One that was never there counts as away since the engine was opened, or since it joined.
    pub fn attend(&self, who: Who) -> Attendance {
        self.parts.presence.attend(who)
    }

    /// Whether a process of a member has a stream open.
    pub fn is_here(&self, who: &Who) -> bool {
        self.parts.presence.is_here(who)
    }

    /// Gives partitions back, with their last cursor commits.
    pub fn release(&self, release: Release) -> Ticket<()> {
        match admit::check_commits(&release.commits) {
            Ok(()) => self.ask(GroupRequest::Release(release)),
            Err(refusal) => Ticket::resolved(Err(refusal)),
        }
    }

    /// Ends a membership: what it held goes to others.
    pub fn leave(&self, leave: Leave) -> Ticket<()> {
        self.ask(GroupRequest::Leave(leave))
    }

    fn ask(&self, request: GroupRequest) -> Ticket<()> {
        self.control(|reply| Request::Group(request, reply))
    }
}

/// A text is kept in the tables and copied into frames.
fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), Refusal> {
    let (max, actual) = (max as u64, text.len() as u64);
    if actual <= max { Ok(()) } else { Err(Refusal::SettingOutOfRange { field, min: 0, max, actual }) }
}
