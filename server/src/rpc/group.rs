//! `GroupService`: consumer groups, their cursors, and where they stand.

use std::sync::Arc;

use tillroll_engine::{
    engine::Engine,
    error::Refusal,
    group::{BelowHead, GroupChange, GroupConfig, Mode, NewGroup, Rule, SetCursors},
    id::{GroupId, Lane, Partition},
    limits,
    request::{CursorCommit, Start},
    table::group::GroupRow,
};
use tillroll_proto::{raw::group_service_server::GroupService, v1};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    InTurn, connection_of,
    consume::{self, Seats, Stall},
    in_turn, large_waits, page_in_turn,
    responses::Responses,
};
use crate::{
    calls::{too_many, unknown},
    connections::Connection,
    refusal::{Facts, bad_field, of_answer, of_fault, of_refusal, required},
    wire,
};

mod explain;
mod page;

/// So many cursor commits wait for their answer in little memory.
const COMMITS_SMALL: usize = 64;
/// What is kept of a client's name for itself.
const CLIENT_BYTES_MAX: usize = 256;

/// `GroupService`.
#[derive(Clone)]
pub struct Groups {
    engine: Engine,
    seats: Seats,
    stop: CancellationToken,
}

impl Groups {
    /// Serves this engine until `stop`.
    pub fn new(engine: Engine, stop: CancellationToken) -> Self {
        Self { engine, seats: Seats::default(), stop }
    }

    /// A group as it stands. How far behind it is may be looked up on the disk.
    async fn described(&self, connection: Option<Arc<Connection>>, name: String) -> Result<InTurn<v1::Group>, Facts> {
        let engine = self.engine.clone();
        in_turn(connection, move || Ok(page::whole(&engine, &*row(&engine, &name)?))).await
    }

    async fn answered<T>(&self, answer: impl Future<Output = Result<T, Refusal>>) -> Result<T, Status> {
        answer.await.map_err(|refusal| of_answer(&self.engine, refusal).status())
    }
}

#[tonic::async_trait]
impl GroupService for Groups {
    async fn create_group(
        &self,
        request: Request<v1::CreateGroupRequest>,
    ) -> Result<Response<v1::CreateGroupResponse>, Status> {
        let connection = connection_of(&request);
        let v1::CreateGroupRequest { name, config } = request.into_inner();
        let new = new_group(name.clone(), config)?;
        let engine = self.engine.clone();
        // A start by time is looked up in segments.
        let waits = large_waits(connection.as_ref()).map_err(too_many)?;
        let ticket = in_turn(connection.clone(), move || Ok(engine.create_group(new))).await?.answer;
        drop(waits);
        let (_, created) = self.answered(ticket).await?;
        let group = self.described(connection, name).await?;
        Ok(group.response(|group| v1::CreateGroupResponse { group: Some(group), created }))
    }

    async fn get_group(&self, request: Request<v1::GetGroupRequest>) -> Result<Response<v1::GetGroupResponse>, Status> {
        let group = self.described(connection_of(&request), request.into_inner().name).await?;
        Ok(group.response(|group| v1::GetGroupResponse { group: Some(group) }))
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let connection = connection_of(&request);
        let v1::ListGroupsRequest { page_size, page_token, topic } = request.into_inner();
        let size = super::topic::page_size(page_size)?;
        let after = (!page_token.is_empty()).then_some(page_token);
        let engine = self.engine.clone();
        let page = page_in_turn(connection, move || Ok(page::of_groups(&engine, &topic, after.as_deref(), size)));
        Ok(page.await?.response(|page| page))
    }

    async fn list_cursors(
        &self,
        request: Request<v1::ListCursorsRequest>,
    ) -> Result<Response<v1::ListCursorsResponse>, Status> {
        let connection = connection_of(&request);
        let v1::ListCursorsRequest { group, page_size, page_token } = request.into_inner();
        let size = super::topic::page_size(page_size)?;
        let after = page::token(&page_token)?;
        let engine = self.engine.clone();
        let page =
            page_in_turn(connection, move || Ok(page::of_cursors(&engine, &*row(&engine, &group)?, after, size)));
        Ok(page.await?.response(|page| page))
    }

    async fn update_group(
        &self,
        request: Request<v1::UpdateGroupRequest>,
    ) -> Result<Response<v1::UpdateGroupResponse>, Status> {
        let connection = connection_of(&request);
        let request = request.into_inner();
        let version = match request.etag.as_str() {
            "" => None,
            etag => Some(etag.parse().map_err(|_| bad_field("etag", "etag is not from a group"))?),
        };
        let below_head = request.below_head.map(|number| below_head(number, "below_head")).transpose()?;
        let change = GroupChange {
            group: request.name.clone(),
            version,
            paused: request.paused,
            pause_reason: request.pause_reason,
            below_head: below_head.flatten(),
            add_topics: request.add_topics,
        };
        self.answered(self.engine.change_group(change)).await?;
        let group = self.described(connection, request.name).await?;
        Ok(group.response(|group| v1::UpdateGroupResponse { group: Some(group) }))
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        let v1::DeleteGroupRequest { name, with_members } = request.into_inner();
        self.answered(self.engine.delete_group(&name, with_members)).await?;
        Ok(Response::new(v1::DeleteGroupResponse {}))
    }

    async fn set_cursors(
        &self,
        request: Request<v1::SetCursorsRequest>,
    ) -> Result<Response<v1::SetCursorsResponse>, Status> {
        let connection = connection_of(&request);
        let mut request = request.into_inner();
        let (engine, to) = (self.engine.clone(), wire::start(request.to.take(), "to")?);
        let waits = large_waits(connection.as_ref()).map_err(too_many)?;
        let set = in_turn(connection, move || set_cursors(&engine, request, to)).await?.answer;
        drop(waits);
        let moves = self.answered(self.engine.set_cursors(set)).await?;
        let moves = moves.into_iter().map(|made| v1::CursorMove {
            partition: made.partition.0,
            from_offset: made.from.0,
            to_offset: made.to.0,
            skipped_records: made.to.0.saturating_sub(made.from.0),
            repeated_records: made.from.0.saturating_sub(made.to.0),
        });
        Ok(Response::new(v1::SetCursorsResponse { moves: moves.collect() }))
    }

    async fn commit_cursors(
        &self,
        request: Request<v1::CommitCursorsRequest>,
    ) -> Result<Response<v1::CommitCursorsResponse>, Status> {
        let connection = connection_of(&request);
        let commits: Vec<_> = request.into_inner().commits.into_iter().map(wire::cursor_commit).collect();
        if commits.is_empty() {
            return Err(required("commits", "commits has nothing to commit").status());
        }
        let moved = moved(&self.engine, &commits);
        self.answered(self.engine.commit_cursors(commits)).await?;
        let engine = self.engine.clone();
        let is_large = moved.len() > COMMITS_SMALL;
        let _waits = is_large.then(|| large_waits(connection.as_ref())).transpose().map_err(unknown)?;
        let cursors = in_turn(connection, move || {
            let one = |&(id, lane): &(GroupId, Lane)| {
                let row = engine.group_of(id)?;
                Some(page::cursor(&engine, page::name_of(&row, lane), lane, row.cursors.get(&lane)?))
            };
            Ok(moved.iter().filter_map(one).collect())
        });
        Ok(cursors.await?.response(|cursors| v1::CommitCursorsResponse { cursors }))
    }

    async fn explain_group(
        &self,
        request: Request<v1::ExplainGroupRequest>,
    ) -> Result<Response<v1::ExplainGroupResponse>, Status> {
        let (engine, seats, connection) = (self.engine.clone(), self.seats.clone(), connection_of(&request));
        let name = request.into_inner().group;
        // Where no member reads, a look into the log may have to go to the disk.
        let explained = in_turn(connection, move || {
            let row = row(&engine, &name)?;
            let extent = |lane| engine.extent(lane).unwrap_or_default();
            let view = |member: &str| {
                let known = row.members.get(member)?;
                seats.view(&(row.id, member.to_owned(), known.instance.clone()))
            };
            let probe = |lane, from| engine.read(lane, from, 1).err().map(|fault| Stall::from(&of_fault(&fault)));
            let now_us = engine.env().wall_us();
            Ok(explain::explain(&explain::Look { row: &row, now_us, extent: &extent, view: &view, probe: &probe }))
        });
        Ok(explained.await?.response(|explained| explained))
    }

    type ConsumeStream = Responses<v1::ConsumeResponse>;

    async fn consume(
        &self,
        request: Request<Streaming<v1::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let (client, stop) = (client_of(&request), self.stop.clone());
        let who = consume::Caller { client, connection: connection_of(&request) };
        let stream = consume::open(self.engine.clone(), self.seats.clone(), request.into_inner(), who, stop);
        Ok(Response::new(stream))
    }
}

/// The cursors that are committed, small: they wait for the commit. Where one is not there, all are refused.
fn moved(engine: &Engine, commits: &[CursorCommit]) -> Vec<(GroupId, Lane)> {
    let one = |commit: &CursorCommit| {
        let row = engine.group(&commit.group).ok()?;
        Some((row.id, Lane { topic: row.topic(&commit.topic)?, partition: commit.partition }))
    };
    commits.iter().map_while(one).collect()
}

fn row(engine: &Engine, name: &str) -> Result<Arc<GroupRow>, Facts> {
    engine.group(name).map_err(|refusal| of_refusal(&refusal))
}

/// What a client says of itself, and where it is.
fn client_of<T>(request: &Request<T>) -> String {
    let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let mut agent = agent.to_owned();
    agent.truncate(agent.floor_char_boundary(CLIENT_BYTES_MAX));
    match request.remote_addr() {
        Some(address) if agent.is_empty() => address.to_string(),
        Some(address) => format!("{agent} at {address}"),
        None => agent,
    }
}

/// Which cursors go where.
fn set_cursors(engine: &Engine, request: v1::SetCursorsRequest, to: Start) -> Result<SetCursors, Facts> {
    let view = engine.topic(&request.topic).map_err(|refusal| of_refusal(&refusal))?;
    let chosen: Vec<u32> =
        if request.partitions.is_empty() { (0..view.config.partitions).collect() } else { request.partitions };
    let one = |partition: u32| {
        let lane = Lane { topic: view.id, partition: Partition(partition) };
        let found = engine.find(lane, to);
        let found = found.map_err(|fault| of_fault(&fault).at(&view.name, Some(lane.partition)))?;
        Ok::<_, Facts>((lane.partition, found))
    };
    Ok(SetCursors {
        group: request.group,
        topic: request.topic,
        to: chosen.into_iter().map(one).collect::<Result<_, _>>()?,
        dry_run: request.dry_run,
        with_members: request.with_members,
        reason: request.reason,
    })
}

fn below_head(number: i32, field: &str) -> Result<Option<BelowHead>, Facts> {
    match v1::BelowHead::try_from(number) {
        Ok(v1::BelowHead::Unspecified) => Ok(None),
        Ok(v1::BelowHead::Fail) => Ok(Some(BelowHead::Fail)),
        Ok(v1::BelowHead::Earliest) => Ok(Some(BelowHead::Earliest)),
        Err(_) => Err(bad_field(field, format!("{field} is {number}; FAIL (1) and EARLIEST (2) are"))),
    }
}

/// A group to be created. Mode and start are never guessed.
fn new_group(name: String, config: Option<v1::GroupConfig>) -> Result<NewGroup, Facts> {
    let config = config.ok_or_else(|| required("config", "config says how the group works"))?;
    let mode = match v1::GroupMode::try_from(config.mode) {
        Ok(v1::GroupMode::Members) => Mode::Members,
        Ok(v1::GroupMode::Manual) => Mode::Manual,
        Ok(v1::GroupMode::Unspecified) => {
            return Err(required("config.mode", "config.mode is MEMBERS or MANUAL; it is never guessed"));
        }
        Err(_) => return Err(bad_field("config.mode", "config.mode is MEMBERS (1) or MANUAL (2)")),
    };
    let rule = match v1::AssignmentRule::try_from(config.rule) {
        Ok(v1::AssignmentRule::Unspecified) => None,
        Ok(v1::AssignmentRule::Spread) => Some(Rule::Spread),
        Ok(v1::AssignmentRule::CoPartitioned) => Some(Rule::CoPartitioned),
        Ok(v1::AssignmentRule::Single) => Some(Rule::Single),
        Err(_) => return Err(bad_field("config.rule", "config.rule is SPREAD (1), CO_PARTITIONED (2) or SINGLE (3)")),
    };
    if mode == Mode::Members && rule.is_none() {
        return Err(required("config.rule", "config.rule is required of a group with members"));
    }
    let or = |asked: u32, [_, usual, _]: [u32; 3]| if asked == 0 { usual } else { asked };
    Ok(NewGroup {
        name,
        topics: config.topics,
        config: GroupConfig {
            mode,
            rule,
            start: wire::start(config.start, "config.start")?,
            below_head: below_head(config.below_head, "config.below_head")?.unwrap_or(BelowHead::Fail),
            session_ms: or(config.session_ms, limits::SESSION_MS),
            drain_ms: or(config.drain_ms, limits::DRAIN_MS),
        },
    })
}
