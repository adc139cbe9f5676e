//! Groups and cursors as answers tell them, within what a generic client takes: at most [`CURSORS_MAX`] cursors come
//! with a group, and a page ends before its answer is too large.
//!
//! A cursor that is behind costs a look at the record there, which may have to be read from the disk: what bounds the
//! cursors of an answer bounds that.

use std::ops::Bound;

use prost::Message as _;
use tillroll_engine::{
    engine::Engine,
    id::{Lane, Offset, Partition, TopicId},
    request::Start,
    table::group::{CursorRow, GroupRow},
};
use tillroll_proto::v1::{self, start_position::At};
use tonic::Status;

use crate::refusal::bad_field;

/// Cursors that come with a group.
const CURSORS_MAX: usize = 256;
/// Cursors of all groups of one page.
const PAGE_CURSORS_MAX: usize = 1_024;
/// Bytes of an answer; what passes it is left to the next page.
const ANSWER_BYTES_MAX: usize = 2 << 20;

/// A group alone in its answer.
pub(super) fn whole(engine: &Engine, row: &GroupRow) -> v1::Group {
    group(engine, row, CURSORS_MAX)
}

/// A page of groups by name, behind `after`; those that read `topic`, when it names one.
pub(super) fn of_groups(engine: &Engine, topic: &str, after: Option<&str>, size: usize) -> v1::ListGroupsResponse {
    let rows = engine.groups(after, size + 1);
    let (mut bytes, mut cursors) = (0, PAGE_CURSORS_MAX);
    let mut page = v1::ListGroupsResponse::default();
    for (place, row) in rows.iter().enumerate() {
        if place == size || bytes >= ANSWER_BYTES_MAX / 2 || cursors == 0 {
            page.next_page_token.clone_from(&rows[place - 1].name);
            break;
        }
        if topic.is_empty() || row.topic(topic).is_some() {
            let group = group(engine, row, cursors.min(CURSORS_MAX));
            bytes += group.encoded_len();
            cursors -= group.cursors.len();
            page.groups.push(group);
        }
    }
    page
}

/// A page of the cursors of a group behind `after`.
pub(super) fn of_cursors(engine: &Engine, row: &GroupRow, after: Option<Lane>, size: usize) -> v1::ListCursorsResponse {
    let mut page = v1::ListCursorsResponse::default();
    let (mut bytes, mut last) = (0, None);
    for (lane, at) in row.cursors.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)) {
        if page.cursors.len() == size || bytes >= ANSWER_BYTES_MAX {
            page.next_page_token = last.map(token_of).unwrap_or_default();
            break;
        }
        let cursor = cursor(engine, name_of(row, *lane), *lane, at);
        bytes += cursor.encoded_len();
        page.cursors.push(cursor);
        last = Some(*lane);
    }
    page
}

fn token_of(lane: Lane) -> String {
    format!("{:x}-{}", lane.topic.0, lane.partition.0)
}

/// What stands in a token of a page of cursors.
pub(super) fn token(token: &str) -> Result<Option<Lane>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let lane = token.split_once('-').and_then(|(topic, partition)| {
        let topic = TopicId(u64::from_str_radix(topic, 16).ok()?);
        Some(Lane { topic, partition: Partition(partition.parse().ok()?) })
    });
    lane.map(Some).ok_or_else(|| bad_field("page_token", "page_token is not from an answer").status())
}

pub(super) fn name_of(row: &GroupRow, lane: Lane) -> &str {
    row.topics.iter().find(|(id, _)| *id == lane.topic).map_or("", |(_, name)| name.as_str())
}

/// A group with its first cursors, and what members hold of these.
fn group(engine: &Engine, row: &GroupRow, cursors_max: usize) -> v1::Group {
    let (mut bytes, mut cursors, mut last) = (0, Vec::new(), None);
    for (lane, at) in row.cursors.iter().take(cursors_max) {
        let cursor = cursor(engine, name_of(row, *lane), *lane, at);
        bytes += cursor.encoded_len();
        // Its assignment takes as much again, at most.
        if bytes > ANSWER_BYTES_MAX / 4 {
            break;
        }
        cursors.push(cursor);
        last = Some(*lane);
    }
    let shown = |lane: &Lane| last.is_some_and(|last| *lane <= last);
    let members = row.members.iter().map(|(id, member)| v1::Member {
        member_id: id.clone(),
        instance_id: member.instance.clone(),
        client: member.client.clone(),
        joined_time_us: member.joined_us,
        connected: engine.is_here(&(row.id, id.clone(), member.instance.clone())),
        assignments: row
            .cursors
            .iter()
            .take_while(|(lane, _)| shown(lane))
            .filter(|(_, at)| at.holder.as_ref() == Some(id))
            .map(|(lane, at)| v1::Assignment {
                topic: name_of(row, *lane).to_owned(),
                partition: lane.partition.0,
                assignment_epoch: at.epoch,
                next_offset: at.next.0,
            })
            .collect(),
    });
    v1::Group {
        name: row.name.clone(),
        config: Some(config(row)),
        etag: row.version.to_string(),
        paused: row.paused.is_some(),
        pause_reason: row.paused.clone().unwrap_or_default(),
        members: members.collect(),
        has_more_cursors: cursors.len() < row.cursors.len(),
        cursors,
    }
}

fn config(row: &GroupRow) -> v1::GroupConfig {
    let config = &row.config;
    let at = match config.start {
        Start::Earliest => At::Earliest(true),
        Start::Latest => At::Latest(true),
        Start::Offset(offset) => At::Offset(offset.0),
        Start::AppendTime(time_us) => At::AppendTimeUs(time_us),
        Start::Last(count) => At::LastRecords(count),
    };
    v1::GroupConfig {
        topics: row.topics.iter().map(|(_, name)| name.clone()).collect(),
        mode: config.mode as i32,
        rule: config.rule.map_or(0, |rule| rule as i32),
        start: Some(v1::StartPosition { at: Some(at) }),
        below_head: config.below_head as i32,
        session_ms: config.session_ms,
        drain_ms: config.drain_ms,
    }
}

pub(super) fn cursor(engine: &Engine, topic: &str, lane: Lane, at: &CursorRow) -> v1::Cursor {
    let end = engine.extent(lane).map_or(at.next, |extent| extent.end);
    v1::Cursor {
        topic: topic.to_owned(),
        partition: lane.partition.0,
        next_offset: at.next.0,
        lag_records: end.0.saturating_sub(at.next.0),
        lag_ms: if end > at.next { waiting_ms(engine, lane, at.next) } else { 0 },
        metadata: at.metadata.clone(),
        committed_time_us: at.committed_us,
        holder: at.holder.clone().unwrap_or_default(),
        assignment_epoch: at.epoch,
    }
}

/// How long the record at an offset has been there, at least 1; 0 when it cannot be read.
fn waiting_ms(engine: &Engine, lane: Lane, next: Offset) -> u64 {
    let Ok(answer) = engine.read(lane, next, 1) else { return 0 };
    let Some(chunk) = answer.chunks.first() else { return 0 };
    let mut first = chunk.base;
    let run = chunk.times.iter().find(|run| {
        first = first.plus(run.record_count.into());
        next < first
    });
    let Some(run) = run else { return 0 };
    let since = engine.env().wall_us().saturating_sub(run.append_time_us);
    u64::try_from(since / 1_000).unwrap_or(0).max(1)
}
