//! The services, one room a call that needs one.

use std::sync::Arc;

use tillroll_engine::{
    engine::Engine,
    error::Refusal,
    limits,
    request::{Appended, InitProducer},
};
use tillroll_proto::{
    raw::{self, log_service_server::LogService},
    v1,
};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    calls::too_many,
    channel,
    connections::{Connection, Full, LargeWaits, Turn},
    refusal::{Facts, gave_up, of_answer, of_refusal, stopping, table},
    wire,
};

mod append_stream;
mod responses;
pub(crate) mod deadline;
mod read;
mod consume;
mod group;
mod topic;
mod operator;
mod worded;

pub use group::Groups;
pub use operator::{Operator, announce};
pub use topic::Topics;
pub use worded::Worded;

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
    fn answered(&self, answer: Result<Appended, Refusal>) -> Result<Response<v1::AppendResponse>, Status> {
        let appended = answer.map_err(|refusal| of_answer(&self.engine, refusal).status())?;
        Ok(Response::new(wire::appended(appended)))
    }

    /// Serves this engine until `stop`.
    pub fn new(engine: Engine, stop: CancellationToken) -> Self {
        let node_id = engine.node_id().into();
        Self { engine, stop, node_id }
    }
}

#[tonic::async_trait]
impl LogService for Log {
    async fn get_server(
        &self,
        _request: Request<v1::GetServerRequest>,
    ) -> Result<Response<v1::GetServerResponse>, Status> {
        Ok(Response::new(v1::GetServerResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_id: self.node_id.to_string(),
            incarnation: self.engine.incarnation(),
            limits: Some(v1::Limits {
                max_record_bytes: limits::RECORD_BYTES_MAX,
                max_append_bytes: limits::APPEND_BYTES_MAX as u32,
                max_append_records: limits::APPEND_RECORDS_MAX as u32,
                max_append_batches: limits::APPEND_BATCHES_MAX as u32,
                max_key_bytes: limits::KEY_BYTES_MAX as u32,
                max_in_flight_appends: STREAM_APPENDS_MAX as u32,
                max_in_flight_bytes: STREAM_BYTES_MAX as u32,
                max_response_bytes: channel::READ_BYTES_MAX,
                max_batch_bytes: limits::BATCH_BYTES_MAX as u32,
            }),
            features: wire::FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
            journal_syncs: self.engine.journal_syncs(),
        }))
    }

    async fn init_producer(
        &self,
        request: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        let connection = connection_of(&request);
        let request = request.into_inner();
        let name = (!request.producer_id.is_empty()).then(|| request.producer_id.clone());
        let v1::InitProducerRequest { idle_expiry_ms, expected_epoch, .. } = request;
        let init = InitProducer { name, idle_expiry_ms, expected_epoch };
        let opened =
            self.engine.init_producer(init).await.map_err(|refusal| of_answer(&self.engine, refusal).status())?;
        let engine = self.engine.clone();
        let answered = in_turn(connection, move || {
            let newest = engine.newest_appends(&opened.name, opened.epoch);
            Ok(wire::producer(opened, newest.map_err(|refusal| of_refusal(&refusal))?))
        });
        Ok(answered.await?.response(|answer| answer))
    }

    async fn list_producers(
        &self,
        request: Request<v1::ListProducersRequest>,
    ) -> Result<Response<v1::ListProducersResponse>, Status> {
        let v1::ListProducersRequest { name_prefix, page_size, page_token } = request.into_inner();
        let size = topic::page_size(page_size)?;
        let after = (!page_token.is_empty()).then_some(page_token.as_str());
        let mut views = self.engine.producers(&name_prefix, after, size + 1);
        let has_more = views.len() > size;
        views.truncate(size);
        let next_page_token = views.last().filter(|_| has_more).map(|view| view.name.clone()).unwrap_or_default();
        let producers = views.into_iter().map(wire::producer_view).collect();
        Ok(Response::new(v1::ListProducersResponse { producers, next_page_token }))
    }

    async fn list_producer_appends(
        &self,
        request: Request<v1::ListProducerAppendsRequest>,
    ) -> Result<Response<v1::ListProducerAppendsResponse>, Status> {
        let (engine, connection) = (self.engine.clone(), connection_of(&request));
        let v1::ListProducerAppendsRequest { producer_id, after } = request.into_inner();
        let page = page_in_turn(connection, move || {
            let page = engine.producer_appends(&producer_id, after, limits::RECENT_BYTES_MAX);
            let (appends, has_more) = page.map_err(|refusal| of_refusal(&refusal))?;
            let next_after = appends.last().filter(|_| has_more).map_or(0, |last| last.sequence);
            let appends = appends.into_iter().map(wire::producer_append).collect();
            Ok(v1::ListProducerAppendsResponse { appends, next_after })
        });
        Ok(page.await?.response(|page| page))
    }

    async fn delete_producer(
        &self,
        request: Request<v1::DeleteProducerRequest>,
    ) -> Result<Response<v1::DeleteProducerResponse>, Status> {
        let v1::DeleteProducerRequest { producer_id, expected_epoch } = request.into_inner();
        let deleted = self.engine.delete_producer(&producer_id, expected_epoch).await;
        deleted.map_err(|refusal| of_answer(&self.engine, refusal).status())?;
        Ok(Response::new(v1::DeleteProducerResponse {}))
    }

    async fn append(&self, request: Request<raw::AppendRequest>) -> Result<Response<v1::AppendResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let append = wire::append(request.into_inner())?;
        let Some(deadline) = deadline else {
            return self.answered(self.engine.append(append).await.await);
        };
        let last = last_entry(Instant::now(), deadline);
        let mut ticket = timeout_at(last, self.engine.append(append)).await.map_err(|_| queue_too_long())?;
        match timeout_at(last, &mut ticket).await {
            Ok(answer) => self.answered(answer),
            Err(_) if ticket.withdraw() => Err(queue_too_long().status()),
            Err(_) => self.answered(ticket.await),
        }
    }

    type AppendStreamStream = append_stream::Outcomes;

    async fn append_stream(
        &self,
        request: Request<Streaming<raw::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let deadline = deadline::of(request.metadata());
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        let connection = connection_of(&request);
        let outcomes = append_stream::Outcomes::new(engine, request.into_inner(), deadline, connection, stop);
        Ok(Response::new(outcomes))
    }

    type ReadStream = responses::Responses<v1::ReadResponse>;

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let deadline = deadline::of(request.metadata());
        let connection = connection_of(&request);
        let stream =
            read::open(self.engine.clone(), request.into_inner(), deadline, connection, self.stop.clone()).await?;
        Ok(Response::new(stream))
    }
}

/// When an append that still waits for its turn is refused: early enough for the client to hear it.
fn last_entry(now: Instant, deadline: Instant) -> Instant {
    now + deadline.saturating_duration_since(now) * 3 / 4
}

/// A queue too long for the deadline is refused, not waited out.
fn queue_too_long() -> Facts {
    let message = "appends wait for room longer than this one's deadline allows; nothing of it was written, try again";
    Facts::new(&table::TOO_MANY_IN_FLIGHT, message)
}

/// The connection over which a request came.
fn connection_of<T>(request: &Request<T>) -> Option<Arc<Connection>> {
    request.extensions().get().cloned()
}

/// An answer that was put together in a turn, which lasts until it is encoded.
struct InTurn<T> {
    answer: T,
    turn: Option<Arc<Turn>>,
}

impl<T> InTurn<T> {
    fn response<U>(self, response: impl FnOnce(T) -> U) -> Response<U> {
        let mut response = Response::new(response(self.answer));
        if let Some(turn) = self.turn {
            response.extensions_mut().insert(turn);
        }
        response
    }
}

/// Puts a long answer together, or looks up what may have to be read from the disk. Only so many are on their way at a
/// time, also of clients that have gone: what runs already runs to its end.
async fn in_turn<T: Send + 'static>(
    connection: Option<Arc<Connection>>,
    work: impl FnOnce() -> Result<T, Facts> + Send + 'static,
) -> Result<InTurn<T>, Facts> {
    let turn = match connection {
        Some(connection) => Some(Arc::new(connection.turn().await)),
        None => None,
    };
    blocking(move || work().map(|answer| InTurn { answer, turn })).await?
}

/// The same of a page. There may be no room for it, which shows before it is put together.
async fn page_in_turn<T: Send + 'static>(
    connection: Option<Arc<Connection>>,
    work: impl FnOnce() -> Result<T, Facts> + Send + 'static,
) -> Result<InTurn<T>, Facts> {
    let own = connection.clone();
    in_turn(connection, move || own.map_or(Ok(()), |own| own.check_page().map_err(too_many)).and_then(|()| work()))
        .await
}

/// A place among the requests that are large and wait for a turn, where there is one.
fn large_waits(connection: Option<&Arc<Connection>>) -> Result<Option<LargeWaits>, Full> {
    connection.map(Connection::large_waits).transpose()
}

/// Runs what may block on the disk on a thread that may. A panic there is an answer like any other.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Facts> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| if error.is_panic() { gave_up() } else { stopping() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tillroll_proto::reason;

    use super::*;

    #[tokio::test]
    async fn a_panic_on_a_blocking_thread_is_an_answer() {
        let gave_up = blocking(|| assert!(std::env::args().count() == 0, "as planned")).await;
        assert_eq!(gave_up.expect_err("it panicked").reason(), reason::READ_FAILED);
        assert_eq!(blocking(|| 7).await, Ok(7));
    }

    #[test]
    fn an_append_waits_for_room_no_longer_than_its_client_can_hear_of_it() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(last_entry(now, now + second), now + second * 3 / 4);
        assert_eq!(last_entry(now + second, now), now + second);
        assert_eq!(queue_too_long().reason(), reason::TOO_MANY_IN_FLIGHT);
        assert!(queue_too_long().row.wait.is_some());
    }
}
