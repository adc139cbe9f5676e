//! The services, one room a call that needs one.

use std::sync::Arc;

use tillroll_engine::{engine::Engine, limits, request::InitProducer};
use tillroll_proto::v1::{self, log_service_server::LogService};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{refusal::of_refusal, wire};

mod append_stream;
mod read;
mod topic;

pub use topic::Topics;

/// Appends of one stream that may be unanswered.
const STREAM_APPENDS_MAX: usize = limits::PRODUCER_WINDOW;
/// Bytes of one stream that may be unanswered.
const STREAM_BYTES_MAX: usize = 16 << 20;
/// A stream on which nothing flows gets a sign of life this often.
const HEARTBEAT_MS: u32 = 10_000;

/// `LogService`.
#[derive(Clone)]
pub struct Log {
    engine: Engine,
    stop: CancellationToken,
    node_id: Arc<str>,
}

impl Log {
    /// Serves this engine until `stop`.
    pub fn new(engine: Engine, stop: CancellationToken) -> Self {
        let node_id = engine.status().node_id.into();
        Self { engine, stop, node_id }
    }
}

#[tonic::async_trait]
impl LogService for Log {
    async fn get_server(
        &self,
        _request: Request<v1::GetServerRequest>,
    ) -> Result<Response<v1::GetServerResponse>, Status> {
        let status = self.engine.status();
        Ok(Response::new(v1::GetServerResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_id: self.node_id.to_string(),
            incarnation: status.incarnation,
            limits: Some(v1::Limits {
                max_record_bytes: limits::RECORD_BYTES_MAX,
                max_append_bytes: limits::APPEND_BYTES_MAX as u32,
                max_append_records: limits::APPEND_RECORDS_MAX as u32,
                max_append_batches: limits::APPEND_BATCHES_MAX as u32,
                max_key_bytes: limits::KEY_BYTES_MAX as u32,
                max_in_flight_appends: STREAM_APPENDS_MAX as u32,
                max_in_flight_bytes: STREAM_BYTES_MAX as u32,
                max_response_bytes: limits::RESPONSE_BYTES_DEFAULT,
                max_batch_bytes: limits::BATCH_BYTES_MAX as u32,
            }),
            features: wire::FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
            journal_syncs: status.syncs,
        }))
    }

    async fn init_producer(
        &self,
        request: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        let request = request.into_inner();
        let name = (!request.producer_id.is_empty()).then_some(request.producer_id);
        let init = InitProducer { name, idle_expiry_ms: request.idle_expiry_ms };
        let opened = self.engine.init_producer(init).await.map_err(|refusal| of_refusal(&refusal).status())?;
        Ok(Response::new(wire::producer(opened)))
    }

    async fn append(&self, request: Request<v1::AppendRequest>) -> Result<Response<v1::AppendResponse>, Status> {
        let append = wire::append(request.into_inner())?;
        // A client that goes away before this point has written nothing; after it the append stands.
        let ticket = self.engine.append(append).await;
        let appended = ticket.await.map_err(|refusal| of_refusal(&refusal).status())?;
        Ok(Response::new(wire::appended(appended)))
    }

    type AppendStreamStream = append_stream::Outcomes;

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let outcomes = append_stream::Outcomes::new(self.engine.clone(), request.into_inner(), self.stop.clone());
        Ok(Response::new(outcomes))
    }

    type ReadStream = ReceiverStream<Result<v1::ReadResponse, Status>>;

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let stream = read::open(self.engine.clone(), request.into_inner(), self.stop.clone()).await?;
        Ok(Response::new(stream))
    }
}
