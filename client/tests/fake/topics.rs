//! The topic service of the fake: a topic under any name but `absent`, all of
//! them with as many partitions.

use tillroll_proto::{
    reason,
    v1::{self, topic_service_server::TopicService},
};
use tonic::{Request, Response, Status};

use super::{Fake, refusal};

impl Fake {
    fn topic(&self, name: String) -> v1::Topic {
        let state = self.state.lock();
        let count = state.uneven.get(&name).copied().unwrap_or(state.partitions);
        let partitions = (0..count).map(|partition| v1::PartitionInfo {
            partition,
            end_offset: state.end(&(name.clone(), partition)),
            ..Default::default()
        });
        v1::Topic {
            partitions: partitions.collect(),
            name,
            topic_id: "00000000000000aa".into(),
            config: Some(v1::TopicConfig {
                partitions: Some(count),
                codec: Some(v1::Codec::Lz4.into()),
                max_record_bytes: Some(1 << 20),
                segment_bytes: Some(128 << 20),
            }),
            ..Default::default()
        }
    }
}

fn not_served<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in the fake"))
}

#[tonic::async_trait]
impl TopicService for Fake {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        let topic = Some(self.topic(request.into_inner().name));
        Ok(Response::new(v1::CreateTopicResponse { topic, created: true }))
    }

    async fn get_topic(&self, request: Request<v1::GetTopicRequest>) -> Result<Response<v1::GetTopicResponse>, Status> {
        let name = request.into_inner().name;
        if name == "absent" {
            return Err(refusal(reason::TOPIC_NOT_FOUND, &[(reason::key::TOPIC, name)]));
        }
        Ok(Response::new(v1::GetTopicResponse { topic: Some(self.topic(name)) }))
    }

    /// Two topics, one a page.
    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let (name, next) = match request.into_inner().page_token.as_str() {
            "" => ("a", "more"),
            _ => ("b", ""),
        };
        let topics = vec![self.topic(name.into())];
        Ok(Response::new(v1::ListTopicsResponse { topics, next_page_token: next.into() }))
    }

    async fn update_topic(
        &self,
        _: Request<v1::UpdateTopicRequest>,
    ) -> Result<Response<v1::UpdateTopicResponse>, Status> {
        not_served()
    }

    async fn delete_topic(
        &self,
        _: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        not_served()
    }

    async fn find_offsets(
        &self,
        request: Request<v1::FindOffsetsRequest>,
    ) -> Result<Response<v1::FindOffsetsResponse>, Status> {
        let (state, topic) = (self.state.lock(), request.into_inner().topic);
        let offsets = (0..state.partitions)
            .map(|partition| v1::PartitionOffset { partition, next_offset: state.end(&(topic.clone(), partition)) });
        Ok(Response::new(v1::FindOffsetsResponse { offsets: offsets.collect() }))
    }

    async fn list_segments(
        &self,
        _: Request<v1::ListSegmentsRequest>,
    ) -> Result<Response<v1::ListSegmentsResponse>, Status> {
        not_served()
    }
}
