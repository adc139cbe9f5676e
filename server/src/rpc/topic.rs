//! `TopicService`: topics, where reads start, what segments there are.

use tillroll_engine::{
    engine::Engine,
    id::{Lane, Partition, TopicId},
    request::{Extent, TopicView},
};
use tillroll_proto::{raw::topic_service_server::TopicService, reason::key, v1};
use tonic::{Request, Response, Status};

use super::{connection_of, in_turn};
use crate::{
    refusal::{Facts, bad_field, of_answer, of_fault, of_refusal, required, unsupported},
    wire,
};

const PAGE_SIZE_DEFAULT: u32 = 100;
const PAGE_SIZE_MAX: u32 = 1_000;

/// `TopicService`.
#[derive(Clone)]
pub struct Topics {
    engine: Engine,
}

impl Topics {
    /// Serves this engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    fn topic(&self, name: &str) -> Result<TopicView, Status> {
        self.engine.topic(name).map_err(|refusal| of_refusal(&refusal).status())
    }

    /// A topic with its partitions.
    fn described(&self, view: TopicView) -> Result<v1::Topic, Status> {
        let partitions: Vec<Partition> = (0..view.config.partitions).map(Partition).collect();
        let extents = self.engine.extents(view.id, &partitions);
        let extents = extents.map_err(|fault| of_fault(&fault).at(&view.name, None).status())?;
        let partitions = partitions.iter().zip(extents).map(|(partition, extent)| info(*partition, extent)).collect();
        Ok(v1::Topic { partitions, ..wire::topic(view) })
    }
}

fn info(partition: Partition, extent: Extent) -> v1::PartitionInfo {
    v1::PartitionInfo {
        partition: partition.0,
        head_offset: extent.head.0,
        end_offset: extent.end.0,
        stored_bytes: extent.stored_bytes,
        first_append_time_us: extent.first_time_us.unwrap_or(0),
        last_append_time_us: extent.last_time_us.unwrap_or(0),
    }
}

/// How many entries a page has.
pub(super) fn page_size(asked: u32) -> Result<usize, Facts> {
    match asked {
        0 => Ok(PAGE_SIZE_DEFAULT as usize),
        1..=PAGE_SIZE_MAX => Ok(asked as usize),
        _ => {
            let message =
                format!("page_size is {asked}, allowed are 1 to {PAGE_SIZE_MAX}, or 0 for {PAGE_SIZE_DEFAULT}");
            Err(bad_field("page_size", message).with(key::LIMIT, PAGE_SIZE_MAX).with(key::ACTUAL, asked))
        }
    }
}

#[tonic::async_trait]
impl TopicService for Topics {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        let request = request.into_inner();
        let config = wire::topic_config(request.config)?;
        let ticket = self.engine.create_topic(&request.name, config, request.dry_run);
        let created = ticket.await.map_err(|refusal| of_refusal(&refusal).status())?;
        let is_there = !(created.created && request.dry_run);
        let topic = if is_there { self.described(created.topic)? } else { wire::topic(created.topic) };
        Ok(Response::new(v1::CreateTopicResponse { topic: Some(topic), created: created.created }))
    }

    async fn get_topic(&self, request: Request<v1::GetTopicRequest>) -> Result<Response<v1::GetTopicResponse>, Status> {
        let topic = self.described(self.topic(&request.into_inner().name)?)?;
        Ok(Response::new(v1::GetTopicResponse { topic: Some(topic) }))
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let after = (!request.page_token.is_empty()).then_some(request.page_token.as_str());
        let mut views = self.engine.topics(&request.name_prefix, after, size + 1);
        let has_more = views.len() > size;
        views.truncate(size);
        let next = views.last().filter(|_| has_more).map(|view| view.name.clone()).unwrap_or_default();
        let topics = views.into_iter().map(wire::topic).collect();
        Ok(Response::new(v1::ListTopicsResponse { topics, next_page_token: next }))
    }

    async fn update_topic(
        &self,
        _request: Request<v1::UpdateTopicRequest>,
    ) -> Result<Response<v1::UpdateTopicResponse>, Status> {
        Err(unsupported("topic.update").status())
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        let request = request.into_inner();
        if request.topic_id.is_empty() {
            return Err(required(
                "topic_id",
                "topic_id is required, so that a late delete cannot hit a topic made anew",
            )
            .into());
        }
        let id = TopicId::from_hex(&request.topic_id)
            .ok_or_else(|| bad_field("topic_id", format!("topic_id {:?} is not 16 hex digits", request.topic_id)))?;
        let deleted = self.engine.delete_topic(&request.name, id).await;
        deleted.map_err(|refusal| of_answer(&self.engine, refusal).status())?;
        Ok(Response::new(v1::DeleteTopicResponse {}))
    }

    async fn find_offsets(
        &self,
        request: Request<v1::FindOffsetsRequest>,
    ) -> Result<Response<v1::FindOffsetsResponse>, Status> {
        let connection = connection_of(&request);
        let request = request.into_inner();
        let start = wire::start(request.at, "at")?;
        let view = self.topic(&request.topic)?;
        let engine = self.engine.clone();
        // A time is looked up in segments, which may block on the disk.
        let offsets = in_turn(connection, move || {
            let one = |partition| {
                let lane = Lane { topic: view.id, partition: Partition(partition) };
                let found = engine.find(lane, start);
                let found = found.map_err(|fault| of_fault(&fault).at(&view.name, Some(lane.partition)))?;
                Ok(v1::PartitionOffset { partition, next_offset: found.0 })
            };
            (0..view.config.partitions).map(one).collect::<Result<Vec<_>, Facts>>()
        });
        Ok(offsets.await?.response(|offsets| v1::FindOffsetsResponse { offsets }))
    }

    async fn list_segments(
        &self,
        request: Request<v1::ListSegmentsRequest>,
    ) -> Result<Response<v1::ListSegmentsResponse>, Status> {
        let request = request.into_inner();
        let view = self.topic(&request.topic)?;
        let lane = Lane { topic: view.id, partition: Partition(request.partition) };
        let all = self.engine.segments(lane);
        let all = all.map_err(|fault| of_fault(&fault).at(&view.name, Some(lane.partition)).status())?;
        let after: Option<u64> = match request.page_token.as_str() {
            "" => None,
            token => {
                Some(token.parse().map_err(|_| bad_field("page_token", "page_token is not from an earlier page"))?)
            }
        };
        let size = page_size(request.page_size)?;
        let behind = |base: u64| after.is_none_or(|after| base > after);
        let mut left = all.iter().filter(|segment| behind(segment.base.0));
        let page: Vec<v1::Segment> = left.by_ref().take(size).map(segment).collect();
        let next = page.last().filter(|_| left.next().is_some()).map(|last| last.base_offset.to_string());
        Ok(Response::new(v1::ListSegmentsResponse { segments: page, next_page_token: next.unwrap_or_default() }))
    }
}

fn segment(view: &tillroll_engine::request::SegmentView) -> v1::Segment {
    v1::Segment {
        base_offset: view.base.0,
        next_offset: view.end.0,
        stored_bytes: view.bytes,
        sealed: view.sealed,
        first_append_time_us: view.first_time_us,
        last_append_time_us: view.last_time_us,
    }
}
