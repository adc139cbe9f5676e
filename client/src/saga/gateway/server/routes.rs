//! The paths of the gateway, and what it says on each.
//!
//! A status other than 200 says this: 400 and 422 that nothing was charged and nothing will be, however often it is
//! asked; everything else that the outcome is not known here.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    response::Response,
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Limited};
use serde::Serialize;
use serde_json::json;
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    super::{
        behaviour::{End, Fate},
        charge::{Answer, Ask, KEY_HEADER, Key, Operation, Refused, Standing},
        ledger::{LedgerError, Lines},
    },
    Gateway, JSON, Taken,
};

/// The largest body of a request.
const BODY_BYTES_MAX: usize = 64 << 10;
/// The ledger is sent in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait to be sent.
const PIECES_MAX: usize = 4;

pub(super) fn router(gateway: &Arc<Gateway>) -> Router {
    let mut router = Router::new();
    for operation in Operation::ALL {
        let handler = move |State(gateway), request| charge(gateway, operation, request);
        router = router.route(operation.path(), post(handler));
    }
    router
        .route("/v1/outcomes/{key}", get(outcome))
        .route("/v1/behaviour", get(behaviour).post(behave))
        .route("/v1/counts", get(counts))
        .route("/v1/ledger", get(ledger))
        .route("/livez", get(async || "ok\n"))
        .with_state(Arc::clone(gateway))
}

async fn charge(gateway: Arc<Gateway>, operation: Operation, request: Request) -> Response {
    let Ok(slot) = gateway.slots.try_acquire() else {
        gateway.count(|injected| injected.unavailable += 1);
        return refused(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
    };
    let (parts, body) = request.into_parts();
    // Whoever does not send his request whole has not asked for anything.
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return malformed(&gateway, "the body is too long, or ends early");
    };
    let body = body.to_bytes();
    let read = key(&parts.headers).and_then(|key| Ok((key, Ask::parse(&body).map_err(|fault| fault.to_string())?)));
    let taken = match &read {
        Ok((key, ask)) => gateway.take(operation, key.as_ref(), ask),
        Err(fault) => return malformed(&gateway, fault),
    };
    match taken {
        Taken::Down => refused(StatusCode::SERVICE_UNAVAILABLE, "the gateway is down"),
        Taken::Closed(error) => unknown(&error),
        Taken::Mismatch(known) => {
            let (operation, order, amount) = (known.operation, known.order, known.amount);
            let words =
                format!("the key stands for another charge operation={operation} order={order} amount={amount}");
            refused(StatusCode::UNPROCESSABLE_ENTITY, &words)
        }
        Taken::Standing { number, standing, is_repeated, fate } => {
            if let Err(error) = gateway.ledger.synced(number).await {
                return unknown(&error);
            }
            drop(slot);
            let answer = Answer { outcome: standing, charge: number, repeated: is_repeated };
            finish(&gateway, answer, fate).await
        }
    }
}

/// Lets a charge that is in the ledger meet its fate.
async fn finish(gateway: &Gateway, answer: Answer, fate: Fate) -> Response {
    if let Some(late) = fate.late {
        gateway.count(|injected| injected.late += 1);
        tokio::select! {
            () = gateway.stop.cancelled() => {}
            () = sleep(late) => {}
        }
    }
    match fate.end {
        End::Answer | End::Pending => {
            if answer.repeated {
                gateway.count(|injected| match answer.outcome {
                    Standing::Pending => injected.pending_repeats += 1,
                    Standing::Accepted | Standing::Declined => injected.repeated += 1,
                });
            }
            ok(&answer)
        }
        End::TimeOut => {
            gateway.count(|injected| {
                injected.timed_out += u64::from(!answer.repeated);
                injected.timed_out_repeats += u64::from(answer.repeated);
            });
            // Whoever gives up closes the connection, or his stream of it, and this ends.
            gateway.stop.cancelled().await;
            hang_up()
        }
        End::FallOver => {
            gateway.count(|injected| injected.fell_over += 1);
            (gateway.on_fall_over)();
            hang_up()
        }
    }
}

/// The key of a request, if it has one.
fn key(headers: &HeaderMap) -> Result<Option<Key>, String> {
    let Some(value) = headers.get(KEY_HEADER) else { return Ok(None) };
    let text = value.to_str().map_err(|_| "a key has a character that is not visible ASCII".to_owned())?;
    text.parse().map(Some).map_err(|fault: super::super::charge::KeyFault| fault.to_string())
}

async fn outcome(State(gateway): State<Arc<Gateway>>, Path(key): Path<String>) -> Response {
    let known = {
        let mut till = gateway.till();
        if till.behaviour.down {
            till.count(|injected| injected.unavailable += 1);
            return refused(StatusCode::SERVICE_UNAVAILABLE, "the gateway is down");
        }
        till.book.known(&key).cloned()
    };
    let Some(known) = known else { return refused(StatusCode::NOT_FOUND, "the key is not known") };
    if let Err(error) = gateway.ledger.synced(known.number).await {
        return unknown(&error);
    }
    let outcome: Standing = known.standing();
    ok(&json!({
        "key": key, "operation": known.operation, "order": known.order, "amount": known.amount,
        "outcome": outcome, "charge": known.number,
    }))
}

async fn behaviour(State(gateway): State<Arc<Gateway>>) -> Response {
    ok(&gateway.till().behaviour)
}

async fn behave(State(gateway): State<Arc<Gateway>>, changes: Bytes) -> Response {
    let mut till = gateway.till();
    match till.behaviour.changed(&changes) {
        Ok(after) => {
            till.behaviour = after;
            ok(&till.behaviour)
        }
        Err(fault) => refused(StatusCode::BAD_REQUEST, &fault.to_string()),
    }
}

async fn counts(State(gateway): State<Arc<Gateway>>) -> Response {
    ok(&gateway.counts())
}

/// The ledger as far as it is synced, one JSON object a line. Read from the file, so that it costs no memory.
async fn ledger(State(gateway): State<Arc<Gateway>>) -> Response {
    let (path, end) = gateway.ledger.extent();
    let (pieces, receiver) = mpsc::channel::<Result<Bytes, LedgerError>>(PIECES_MAX);
    tokio::task::spawn_blocking(move || {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let mut lines = match Lines::open(&path, end) {
            Ok(lines) => lines,
            // Whoever reads has an end that is none, and knows it.
            Err(error) => return drop(pieces.blocking_send(Err(error))),
        };
        loop {
            match lines.next_text() {
                Ok(Some(text)) => piece.extend_from_slice(text),
                Ok(None) => return drop(pieces.blocking_send(Ok(piece.into()))),
                Err(error) => return drop(pieces.blocking_send(Err(error))),
            }
            if piece.len() >= PIECE_BYTES {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES));
                if pieces.blocking_send(Ok(full.into())).is_err() {
                    return;
                }
            }
        }
    });
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(receiver)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

fn ok(body: &impl Serialize) -> Response {
    answer(StatusCode::OK, body)
}

fn malformed(gateway: &Gateway, words: &str) -> Response {
    gateway.count(|injected| injected.malformed += 1);
    refused(StatusCode::BAD_REQUEST, words)
}

/// The ledger takes nothing, so what was asked may be charged or not.
fn unknown(error: &LedgerError) -> Response {
    refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}

fn refused(status: StatusCode, words: &str) -> Response {
    answer(status, &Refused { error: words.into() })
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("names and numbers have a text");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// No answer at all: a body that fails closes the connection, or the stream of it.
fn hang_up() -> Response {
    let failure = std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "hung up");
    let mut response = Response::new(Body::from_stream(tokio_stream::once(Err::<Bytes, _>(failure))));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
