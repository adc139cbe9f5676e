//! A `LogService` that answers every append at once: no engine, no disk, no look at the records.

use std::{
    net::Ipv4Addr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use tillroll_proto::v1::{
    self, AppendOutcome, AppendRequest, AppendResponse, AppendStreamOpened, AppendStreamRequest, AppendStreamResponse,
    AppendedBatch,
    append_batch::Content,
    append_outcome::Result as Outcome,
    append_stream_response::Event,
    log_service_server::{LogService, LogServiceServer},
};
use tillroll_server::channel;
use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

use super::settings::Settings;

/// What a broker announces: appends and bytes of a stream that may be unanswered.
const STREAM_APPENDS_MAX: u32 = 256;
const STREAM_BYTES_MAX: u32 = 16 << 20;

/// Answers as if there were one partition that nobody reads.
#[derive(Debug, Default)]
struct Echo {
    end: Arc<AtomicU64>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn answer(end: &AtomicU64, request: AppendRequest) -> AppendResponse {
    let batches = request.batches.into_iter().zip(0..).map(|(batch, batch_index)| {
        let record_count = match batch.content {
            Some(Content::Encoded(encoded)) => encoded.record_count,
            Some(Content::Records(set)) => u32::try_from(set.records.len()).unwrap_or(u32::MAX),
            None => 0,
        };
        AppendedBatch {
            batch_index,
            topic: batch.topic,
            partition: batch.partition.unwrap_or(0),
            base_offset: end.fetch_add(record_count.into(), Ordering::Relaxed),
            record_count,
            record_indexes: Vec::new(),
            topic_id: String::new(),
        }
    });
    AppendResponse { batches: batches.collect(), ..AppendResponse::default() }
}

fn absent() -> Status {
    Status::unimplemented("the bare server only answers appends")
}

#[tonic::async_trait]
impl LogService for Echo {
    async fn get_server(&self, _: Request<v1::GetServerRequest>) -> Result<Response<v1::GetServerResponse>, Status> {
        Err(absent())
    }

    async fn init_producer(
        &self,
        _: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        Err(absent())
    }

    async fn list_producers(
        &self,
        _: Request<v1::ListProducersRequest>,
    ) -> Result<Response<v1::ListProducersResponse>, Status> {
        Err(absent())
    }

    async fn list_producer_appends(
        &self,
        _: Request<v1::ListProducerAppendsRequest>,
    ) -> Result<Response<v1::ListProducerAppendsResponse>, Status> {
        Err(absent())
    }

    async fn delete_producer(
        &self,
        _: Request<v1::DeleteProducerRequest>,
    ) -> Result<Response<v1::DeleteProducerResponse>, Status> {
        Err(absent())
    }

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        Ok(Response::new(answer(&self.end, request.into_inner())))
    }

    type AppendStreamStream = Answers<AppendStreamResponse>;

    async fn append_stream(
        &self,
        request: Request<Streaming<AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let opened = AppendStreamOpened {
            max_in_flight_appends: STREAM_APPENDS_MAX,
            max_in_flight_bytes: STREAM_BYTES_MAX,
            heartbeat_ms: 10_000,
        };
        let end = self.end.clone();
        let outcomes = request.into_inner().map(move |request| {
            let AppendStreamRequest { append_id, append } = request?;
            let append = append.ok_or_else(|| Status::invalid_argument("append is not set"))?;
            let result = Some(Outcome::Ok(answer(&end, append)));
            Ok(event(Event::Outcome(AppendOutcome { append_id, result })))
        });
        let first = tokio_stream::once(Ok(event(Event::Opened(opened))));
        Ok(Response::new(Box::pin(first.chain(outcomes))))
    }

    type ReadStream = Answers<v1::ReadResponse>;

    async fn read(&self, _: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        Err(absent())
    }
}

fn event(event: Event) -> AppendStreamResponse {
    AppendStreamResponse { event: Some(event) }
}

/// Serves on a free port of the loopback until standard input ends, which it does with the program that holds its
/// other end. Says `listening on ADDRESS` on standard error.
///
/// # Errors
///
/// When the port or the transport fails.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    // As `tillroll serve` makes it: one thread for the connections.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let served = runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding to the loopback")?;
        eprintln!("listening on {}", listener.local_addr()?);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let log = LogServiceServer::new(Echo::default())
            .max_decoding_message_size(channel::REQUEST_BYTES_MAX)
            .max_encoding_message_size(channel::RESPONSE_BYTES_MAX);
        let serving =
            settings.server(tonic::transport::Server::builder()).add_service(log).serve_with_incoming(incoming);
        tokio::select! {
            served = serving => served.context("serving"),
            () = orphaned() => Ok(()),
        }
    });
    runtime.shutdown_background();
    served
}

/// Resolves when standard input ends.
async fn orphaned() {
    let mut input = tokio::io::stdin();
    let mut bytes = [0; 64];
    while input.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}
