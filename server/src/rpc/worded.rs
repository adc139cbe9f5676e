//! Around all services: a response that tonic refuses by itself gets a reason like every other refusal.
//!
//! Requests that are too large, that are no messages, or that call what is not served never reach a room; what tonic
//! answers has a code and nothing else. It is put into our words here. Successful calls pass untouched.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Status, body::Body, codegen::Service};

use crate::refusal::of_transport;

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// A service whose refusals all have reasons.
#[derive(Clone, Debug)]
pub struct Worded<S> {
    inner: S,
}

impl<S> Worded<S> {
    /// Around these.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

type Answer = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for Worded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let uri = request.uri().clone();
        let answer = self.inner.call(request);
        Box::pin(async move { answer.await.map(|response| worded(response, uri.path())) })
    }
}

/// The response with a reason, when it is a refusal that has none.
fn worded(mut response: Response<Body>, path: &str) -> Response<Body> {
    // A call that goes well, or that fails behind its headers, has its status in the trailers.
    if !response.headers().contains_key(STATUS) {
        return response;
    }
    let said = Status::from_header_map(response.headers());
    if let Some(facts) = said.and_then(|status| of_transport(&status, path)) {
        let status = facts.status();
        response.headers_mut().remove(MESSAGE);
        if status.add_header(response.headers_mut()).is_ok() {
            response.extensions_mut().insert(status);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use tillroll_proto::reason;
    use tonic_types::StatusExt;

    use super::*;

    fn reason_of(status: Status, path: &str) -> Option<String> {
        let response = worded(status.into_http(), path);
        let status = Status::from_header_map(response.headers()).expect("a status");
        status.get_details_error_info().map(|info| info.reason)
    }

    #[test]
    fn what_tonic_refuses_by_itself_gets_a_reason() {
        let cases = [
            (Status::out_of_range("decoded message length too large"), Some(reason::APPEND_TOO_LARGE)),
            (Status::internal("invalid wire type"), Some(reason::BAD_ENCODING)),
            (Status::unimplemented(""), Some(reason::UNSUPPORTED_FEATURE)),
            (Status::not_found("service not registered"), None),
            (Status::cancelled("gone"), None),
        ];
        for (status, expected) in cases {
            let shown = status.to_string();
            assert_eq!(reason_of(status, "/tillroll.v1.GroupService/ListGroups").as_deref(), expected, "{shown}");
        }
    }

    #[test]
    fn a_refusal_that_has_a_reason_keeps_it() {
        let facts = crate::refusal::unsupported("topic.update");
        let response = worded(facts.status().into_http(), "/x/y");
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.message(), facts.message);
    }

    #[test]
    fn a_call_that_went_well_passes_untouched() {
        let response = worded(Response::new(Body::empty()), "/x/y");
        assert!(response.headers().is_empty());
    }
}
