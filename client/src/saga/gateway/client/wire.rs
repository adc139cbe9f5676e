//! One try of a call: a request on a kept connection, and what came of it.
//!
//! One connection of HTTP/2 carries all calls: many requests go out with one write and many answers come in with one
//! read, and whoever gives up ends a stream and not a connection.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header::CONTENT_TYPE, uri::Authority};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use thiserror::Error;

use super::super::{
    charge::{Answer, KEY_HEADER, Key, Operation, Refused, Verdict},
    server::JSON,
};

/// The largest answer, but for the ledger.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// A connection without a word for so long is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(5);
/// And so long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an outcome is not known yet. It may have been charged or not; asking again with the same key tells.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unknown {
    /// The gateway cannot be reached, or the connection broke.
    #[error("the gateway cannot be reached: {what}")]
    Unreachable {
        /// What the system said.
        what: String,
    },
    /// No answer in time.
    #[error("no answer within={within:?}")]
    TimedOut {
        /// How long was waited.
        within: Duration,
    },
    /// An answer that is neither an outcome nor a refusal, such as 503.
    #[error("the gateway did not say status={status}: {what}")]
    Status {
        /// The status.
        status: u16,
        /// What the gateway said.
        what: String,
    },
    /// An answer that is not understood.
    #[error("an answer is not what is expected: {what}")]
    Garbled {
        /// What the parser said.
        what: String,
    },
    /// The gateway has it, and does not know the outcome itself.
    #[error("the outcome is pending charge={charge}")]
    Pending {
        /// The gateway's number of the charge.
        charge: u64,
    },
}

/// The gateway refuses the call itself: nothing was charged, and asking again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An amount of 0 makes no call.
    #[error("an amount of 0 is not charged")]
    NoAmount,
    /// The key stands for another operation, order or amount: two different charges share a key.
    #[error("{what}")]
    Mismatch {
        /// What the key stands for, in the gateway's words.
        what: String,
    },
    /// The request is not understood.
    #[error("the gateway does not take the request: {what}")]
    Malformed {
        /// What is wrong with it, in the gateway's words.
        what: String,
    },
}

/// How a try ended.
#[derive(Debug)]
pub(crate) enum Tried {
    Known { verdict: Verdict, charge: u64, is_repeated: bool },
    Unknown(Unknown),
    Refused(Refusal),
}

/// The way to a gateway.
#[derive(Clone)]
pub(crate) struct Wire {
    client: legacy::Client<HttpConnector, Full<Bytes>>,
    authority: Authority,
    /// In the order of [`Operation::ALL`].
    charges: [Uri; 4],
}

impl Wire {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = legacy::Client::builder(TokioExecutor::new())
            .http2_only(true)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        let authority: Authority = address.to_string().parse().expect("an address and a port are an authority");
        let charges = Operation::ALL.map(|operation| uri(&authority, operation.path()));
        Self { client, authority, charges }
    }

    /// Asks once, with a key or, which only a test should, without.
    pub(crate) async fn charge(&self, operation: Operation, key: Option<&Key>, body: Bytes) -> Tried {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.charges[operation as usize].clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        if let Some(key) = key {
            let value = HeaderValue::from_str(key.as_str()).expect("a key is visible ASCII");
            request.headers_mut().insert(KEY_HEADER, value);
        }
        match self.send(request).await {
            Ok((status, body)) => tried(status, &body),
            Err(unknown) => Tried::Unknown(unknown),
        }
    }

    /// Gets a path, or posts a body to it.
    pub(crate) async fn call(&self, path: &str, body: Option<Bytes>) -> Result<(StatusCode, Bytes), Unknown> {
        self.send(self.request(path, body)).await
    }

    /// Gets a path whose answer has no bound.
    pub(crate) async fn open(&self, path: &str) -> Result<Incoming, Unknown> {
        let response = self.client.request(self.request(path, None)).await.map_err(|error| unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let (status, body) = whole(response).await?;
        Err(unexpected(status, &body))
    }

    fn request(&self, path: &str, body: Option<Bytes>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        if let Some(body) = body {
            *request.method_mut() = http::Method::POST;
            *request.body_mut() = Full::new(body);
        }
        *request.uri_mut() = uri(&self.authority, path);
        request
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Unknown> {
        whole(self.client.request(request).await.map_err(|error| unreachable(&error))?).await
    }
}

async fn whole(response: Response<Incoming>) -> Result<(StatusCode, Bytes), Unknown> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok((status, body.map_err(|error| unreachable(&*error))?.to_bytes()))
}

fn tried(status: StatusCode, body: &[u8]) -> Tried {
    match status {
        StatusCode::OK => match serde_json::from_slice::<Answer>(body) {
            Err(error) => Tried::Unknown(Unknown::Garbled { what: error.to_string() }),
            Ok(answer) => match answer.outcome.verdict() {
                Some(verdict) => Tried::Known { verdict, charge: answer.charge, is_repeated: answer.repeated },
                None => Tried::Unknown(Unknown::Pending { charge: answer.charge }),
            },
        },
        StatusCode::BAD_REQUEST => Tried::Refused(Refusal::Malformed { what: words(body) }),
        StatusCode::UNPROCESSABLE_ENTITY => Tried::Refused(Refusal::Mismatch { what: words(body) }),
        _ => Tried::Unknown(unexpected(status, body)),
    }
}

pub(crate) fn unexpected(status: StatusCode, body: &[u8]) -> Unknown {
    Unknown::Status { status: status.as_u16(), what: words(body) }
}

/// What a refusal says.
pub(crate) fn words(body: &[u8]) -> String {
    let refused = serde_json::from_slice::<Refused<'_>>(body);
    refused.map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |refused| refused.error.into_owned())
}

/// The innermost cause, which names what the system said.
pub(crate) fn unreachable(error: &(dyn std::error::Error + 'static)) -> Unknown {
    let causes = std::iter::successors(Some(error), |error| error.source());
    Unknown::Unreachable { what: causes.last().unwrap_or(error).to_string() }
}

fn uri(authority: &Authority, path: &str) -> Uri {
    let parts = Uri::builder().scheme("http").authority(authority.clone()).path_and_query(path);
    parts.build().expect("paths are written here, and keys in them encoded")
}

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Wire").field("authority", &self.authority).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_makes_an_outcome_and_only_a_refusal_ends_the_asking() {
        fn check(status: u16, body: &str, expected: &str) {
            let found = match tried(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
                Tried::Known { verdict, charge, is_repeated } => format!("{verdict} {charge} {is_repeated}"),
                Tried::Unknown(unknown) => unknown.to_string(),
                Tried::Refused(refusal) => format!("refused: {refusal}"),
            };
            assert!(found.starts_with(expected), "{status} {body}: {found}");
        }
        check(200, r#"{"outcome":"accepted","charge":7,"repeated":false}"#, "accepted 7 false");
        check(200, r#"{"outcome":"declined","charge":8,"repeated":true}"#, "declined 8 true");
        check(200, r#"{"outcome":"pending","charge":9,"repeated":false}"#, "the outcome is pending charge=9");
        check(200, r#"{"outcome":"lost","charge":9,"repeated":false}"#, "an answer is not what is expected");
        check(200, "", "an answer is not what is expected");
        check(201, r#"{"outcome":"declined","charge":8,"repeated":true}"#, "the gateway did not say status=201");
        check(400, r#"{"error":"no amount"}"#, "refused: the gateway does not take the request: no amount");
        check(422, r#"{"error":"the key stands for another"}"#, "refused: the key stands for another");
        for status in [402, 403, 404, 405, 409, 429, 500, 502, 503, 504] {
            check(status, r#"{"error":"declined"}"#, &format!("the gateway did not say status={status}: declined"));
        }
        check(503, "<html>", "the gateway did not say status=503: <html>");
    }
}
