//! The group service of the fake: groups are made and looked up, members come
//! and go on streams. Timers are the script's: a session ends when it says so.

use std::pin::Pin;

use tillroll_proto::{
    reason,
    v1::{self, consume_request::Action, consume_response::Event, group_service_server::GroupService},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Fake, State, as_message,
    group::{Answers, Cursor, Group, Member},
    refusal,
};

/// Answers that wait for a member's connection.
const ANSWERS_MAX: usize = 4_096;

impl Fake {
    /// Makes a group of all partitions of these topics, from the beginning.
    pub(crate) fn group(&self, name: &str, topics: &[&str], rule: v1::AssignmentRule) {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let mode = v1::GroupMode::Members.into();
        let config = v1::GroupConfig { topics, mode, rule: rule.into(), ..Default::default() };
        self.state.lock().make_group(name, config);
    }

    /// Makes a group without members that stands at these offsets of `orders`.
    pub(crate) fn manual_group(&self, name: &str, cursors: &[(u32, u64)]) {
        let mode = v1::GroupMode::Manual.into();
        let config = v1::GroupConfig { topics: vec!["orders".into()], mode, ..Default::default() };
        let mut state = self.state.lock();
        state.make_group(name, config);
        for (partition, next) in cursors {
            let cursors = &mut state.groups.get_mut(name).expect("it was made").cursors;
            cursors.get_mut(&("orders".to_owned(), *partition)).expect("it reads it").next = *next;
        }
    }

    /// Breaks the stream of every member.
    pub(crate) fn break_streams(&self, group: &str) {
        for member in self.state.lock().group(group).expect("it is there").members.values_mut() {
            if let Some((_, answers)) = member.stream.take() {
                let _ = answers.try_send(Err(Status::unavailable("gone")));
            }
        }
    }

    /// A member's session is over.
    pub(crate) fn expire(&self, group: &str, member: &str) {
        let mut state = self.state.lock();
        let group = state.group(group).expect("it is there");
        let held = group.held_by(member);
        group.free(&held, Some("SESSION_EXPIRED"));
        group.members.remove(member);
        group.share();
        state.pump();
    }

    /// Whoever holds this does not hold it any more.
    pub(crate) fn set_cursor(&self, group: &str, topic: &str, partition: u32, next: u64) {
        let mut state = self.state.lock();
        let (group, lane) = (state.group(group).expect("it is there"), (topic.to_owned(), partition));
        group.free(std::slice::from_ref(&lane), Some("CURSOR_SET"));
        let cursor = group.cursors.get_mut(&lane).expect("it reads it");
        (cursor.next, cursor.epoch) = (next, cursor.epoch + 1);
        group.share();
        state.pump();
    }

    /// Whoever holds this has it no more, as when its topic is deleted; until it is shared out again.
    pub(crate) fn lose(&self, group: &str, topic: &str, partition: u32, why: &str) {
        let mut state = self.state.lock();
        state.group(group).expect("it is there").free(&[(topic.to_owned(), partition)], Some(why));
    }

    /// Shares out what nobody has.
    pub(crate) fn share(&self, group: &str) {
        let mut state = self.state.lock();
        state.group(group).expect("it is there").share();
        state.pump();
    }

    /// Tells whoever holds this that it cannot go on, behind everything that was sent.
    pub(crate) fn stall(&self, group: &str, topic: &str, partition: u32, name: &'static str) {
        let mut state = self.state.lock();
        let (group, lane) = (state.group(group).expect("it is there"), (topic.to_owned(), partition));
        let mut assignment = group.assignment(&lane);
        let holder = group.cursors[&lane].holder.clone().expect("somebody holds it");
        let holder = group.members.get_mut(&holder).expect("it is a member");
        assignment.next_offset = holder.positions[&lane];
        let error = Some(as_message(&refusal(name, &[])));
        holder.tell(Event::Stalled(v1::Stalled { assignment: Some(assignment), error }));
    }

    /// Where a group stands.
    pub(crate) fn cursor(&self, group: &str, topic: &str, partition: u32) -> Cursor {
        self.state.lock().groups[group].cursors[&(topic.to_owned(), partition)].clone()
    }
}

impl State {
    fn make_group(&mut self, name: &str, config: v1::GroupConfig) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        let start = v1::StartPosition { at: Some(v1::start_position::At::Earliest(true)) };
        let config = v1::GroupConfig { start: Some(start), below_head: v1::BelowHead::Fail.into(), ..config };
        let partitions = self.partitions;
        let lanes = config.topics.iter().flat_map(|topic| (0..partitions).map(move |at| (topic.clone(), at)));
        let cursors = lanes.map(|lane| (lane, Cursor::default())).collect();
        self.groups.insert(name.to_owned(), Group { config, cursors, ..Group::default() });
        true
    }

    fn described(&mut self, name: &str) -> Result<v1::Group, Status> {
        let ends: std::collections::BTreeMap<_, _> =
            self.log.keys().map(|lane| (lane.clone(), self.end(lane))).collect();
        let group = self.group(name)?;
        let cursors = group.cursors.iter().map(|(lane, cursor)| v1::Cursor {
            topic: lane.0.clone(),
            partition: lane.1,
            next_offset: cursor.next,
            lag_records: ends.get(lane).copied().unwrap_or(0).saturating_sub(cursor.next),
            holder: cursor.holder.clone().unwrap_or_default(),
            ..Default::default()
        });
        let (cursors, config) = (cursors.collect(), Some(group.config.clone()));
        let has_more_cursors = self.has_more_cursors;
        Ok(v1::Group { name: name.to_owned(), config, cursors, has_more_cursors, ..Default::default() })
    }

    fn join(&mut self, join: &v1::Join, answers: Answers) -> Result<u64, Status> {
        self.streams += 1;
        let stream = self.streams;
        let group = self.group(&join.group)?;
        if group.config.mode == v1::GroupMode::Manual as i32 {
            return Err(refusal(reason::FIELD_INVALID, &[]));
        }
        let known = group.members.get(&join.member_id).map(|member| member.instance.clone());
        let resumed = known.as_ref() == Some(&join.instance_id);
        let held = group.held_by(&join.member_id);
        if known.is_some() && !resumed {
            group.free(&held, Some("TAKEN_OVER"));
        }
        let member = group.members.entry(join.member_id.clone()).or_default();
        if let Some((_, older)) = member.stream.take() {
            let status = if resumed { Status::unavailable("replaced") } else { refusal(reason::TAKEN_OVER, &[]) };
            let _ = older.try_send(Err(status));
        }
        member.instance.clone_from(&join.instance_id);
        member.credit = i64::try_from(join.initial_credit_bytes.unwrap_or(8 << 20)).expect("small");
        (member.stream, member.holds) = (Some((stream, answers)), std::collections::BTreeSet::new());
        member.tell(Event::Joined(v1::Joined {
            member_id: join.member_id.clone(),
            session_ms: 10_000,
            heartbeat_ms: 10_000,
            resumed,
        }));
        if resumed {
            group.tell_assigned(&held, &join.member_id);
            for lane in held.iter().filter(|lane| group.cursors[*lane].is_draining).cloned().collect::<Vec<_>>() {
                group.tell_revoking(&lane);
            }
        } else if known.is_some() {
            group.give(&held, &join.member_id);
        }
        group.share();
        self.pump();
        Ok(stream)
    }

    fn act(&mut self, group_name: &str, member_id: &str, action: Action) -> Result<(), Status> {
        match action {
            Action::Join(_) => return Err(Status::failed_precondition("it joined already")),
            Action::Heartbeat(_) => {}
            Action::Credit(credit) => {
                self.member(group_name, member_id)?.credit += i64::try_from(credit.bytes).expect("small");
            }
            Action::Commit(commit) => self.commit(group_name, member_id, commit)?,
            Action::Release(release) => {
                let commits = named(group_name, release.commits);
                self.judge_commits(&commits, &[])?;
                self.move_cursors(&commits);
                let group = self.group(group_name)?;
                let lanes =
                    release.assignments.into_iter().map(|one| ((one.topic, one.partition), one.assignment_epoch));
                let held: Vec<_> = lanes
                    .filter(|(lane, epoch)| {
                        let cursor = &group.cursors[lane];
                        cursor.epoch == *epoch && cursor.holder.as_deref() == Some(member_id)
                    })
                    .map(|(lane, _)| lane)
                    .collect();
                group.free(&held, None);
                group.share();
            }
            Action::Hold(hold) => {
                let member = self.member(group_name, member_id)?;
                for one in hold.assignments {
                    let lane = (one.topic, one.partition);
                    if hold.held {
                        member.holds.insert(lane)
                    } else {
                        member.holds.remove(&lane)
                    };
                }
            }
            Action::Leave(_) => {
                let group = self.group(group_name)?;
                let held = group.held_by(member_id);
                group.free(&held, None);
                group.members.remove(member_id);
                group.share();
            }
        }
        self.pump();
        Ok(())
    }

    fn member(&mut self, group: &str, member: &str) -> Result<&mut Member, Status> {
        let gone = || Status::not_found("no such member");
        self.group(group)?.members.get_mut(member).ok_or_else(gone)
    }

    fn commit(&mut self, group: &str, member_id: &str, commit: v1::Commit) -> Result<(), Status> {
        let commits = named(group, commit.commits);
        let result = match self.judge_commits(&commits, &[]) {
            Ok(()) => {
                self.move_cursors(&commits);
                v1::committed::Result::Ok(v1::CommitCursorsResponse::default())
            }
            Err(status) => v1::committed::Result::Refused(as_message(&status)),
        };
        let answer = v1::Committed { commit_id: commit.commit_id, result: Some(result) };
        self.member(group, member_id)?.tell(Event::Committed(answer));
        Ok(())
    }
}

/// On a stream the commits do not say their group.
fn named(group: &str, commits: Vec<v1::CursorCommit>) -> Vec<v1::CursorCommit> {
    commits.into_iter().map(|commit| v1::CursorCommit { group: group.to_owned(), ..commit }).collect()
}

impl Fake {
    async fn follow(self, mut requests: Streaming<v1::ConsumeRequest>, answers: Answers) {
        let Ok(Some(v1::ConsumeRequest { action: Some(Action::Join(join)) })) = requests.message().await else {
            return;
        };
        let joined = self.state.lock().join(&join, answers.clone());
        let stream = match joined {
            Ok(stream) => stream,
            Err(status) => {
                let _ = answers.send(Err(status)).await;
                return;
            }
        };
        drop(answers);
        let is_current = |state: &mut State| {
            let member = state.member(&join.group, &join.member_id).ok();
            member.is_some_and(|member| member.stream.as_ref().is_some_and(|(current, _)| *current == stream))
        };
        while let Ok(Some(request)) = requests.message().await {
            let mut state = self.state.lock();
            if !is_current(&mut state) {
                return;
            }
            let Some(action) = request.action else { return };
            if state.act(&join.group, &join.member_id, action).is_err() {
                break;
            }
        }
        let mut state = self.state.lock();
        if is_current(&mut state) {
            state.member(&join.group, &join.member_id).expect("it is there").stream = None;
        }
    }
}

fn not_served<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in the fake"))
}

#[tonic::async_trait]
impl GroupService for Fake {
    type ConsumeStream = Pin<Box<dyn Stream<Item = Result<v1::ConsumeResponse, Status>> + Send>>;

    async fn consume(
        &self,
        request: Request<Streaming<v1::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let (answers, stream) = mpsc::channel(ANSWERS_MAX);
        tokio::spawn(self.clone().follow(request.into_inner(), answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn create_group(
        &self,
        request: Request<v1::CreateGroupRequest>,
    ) -> Result<Response<v1::CreateGroupResponse>, Status> {
        let v1::CreateGroupRequest { name, config } = request.into_inner();
        let mut state = self.state.lock();
        let created = state.make_group(&name, config.unwrap_or_default());
        Ok(Response::new(v1::CreateGroupResponse { group: Some(state.described(&name)?), created }))
    }

    async fn get_group(&self, request: Request<v1::GetGroupRequest>) -> Result<Response<v1::GetGroupResponse>, Status> {
        let mut state = self.state.lock();
        state.looks.0 += 1;
        let group = Some(state.described(&request.into_inner().name)?);
        Ok(Response::new(v1::GetGroupResponse { group }))
    }

    async fn list_cursors(
        &self,
        _: Request<v1::ListCursorsRequest>,
    ) -> Result<Response<v1::ListCursorsResponse>, Status> {
        self.state.lock().looks.1 += 1;
        not_served()
    }

    async fn list_groups(&self, _: Request<v1::ListGroupsRequest>) -> Result<Response<v1::ListGroupsResponse>, Status> {
        not_served()
    }

    async fn update_group(
        &self,
        _: Request<v1::UpdateGroupRequest>,
    ) -> Result<Response<v1::UpdateGroupResponse>, Status> {
        not_served()
    }

    async fn delete_group(
        &self,
        _: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        not_served()
    }

    async fn set_cursors(&self, _: Request<v1::SetCursorsRequest>) -> Result<Response<v1::SetCursorsResponse>, Status> {
        not_served()
    }

    async fn commit_cursors(
        &self,
        _: Request<v1::CommitCursorsRequest>,
    ) -> Result<Response<v1::CommitCursorsResponse>, Status> {
        not_served()
    }

    async fn explain_group(
        &self,
        _: Request<v1::ExplainGroupRequest>,
    ) -> Result<Response<v1::ExplainGroupResponse>, Status> {
        not_served()
    }
}
