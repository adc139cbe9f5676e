//! One call on its way in and out: its body is put together within the budgets of its connection, its time is limited
//! by what the client says, and there are no more calls at a time than may be.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;
use tillroll_proto::reason::key;
use tokio::net::TcpStream;
use tonic::{
    body::Body,
    codegen::Service as _,
    service::Routes,
    transport::server::{Connected, TcpConnectInfo},
};

use crate::{
    body::{Inbound, Outbound},
    connections::{Connection, Full, LARGE_WAITS_MAX, STREAMS_MAX, Turn, UNREAD_BYTES_MAX, UNREAD_BYTES_OWN},
    refusal::{Facts, table},
    rpc::{Worded, deadline},
};

/// What lies ready for whoever asks for reflection: two descriptions of a file.
const REFLECTION_BYTES: usize = 64 << 10;
/// How the names of calls begin that change nothing: whoever is not answered may ask again.
const LOOKS: [&str; 5] = ["Get", "List", "Find", "Explain", "Check"];

/// What kind of call it is, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Both sides say what they like. All others send one message, which is expected at once.
    Stream,
    /// The same; what is answered lies where nobody counts it.
    Reflection,
    /// It is answered by a stream.
    Streamed,
    /// It has one answer, and changes nothing.
    Look,
    /// It has one answer, and may have changed something.
    Command,
}

impl Form {
    fn of(path: &str) -> Self {
        match path.rsplit('/').next().unwrap_or_default() {
            "AppendStream" | "Consume" => Self::Stream,
            "ServerReflectionInfo" => Self::Reflection,
            "Read" | "Watch" => Self::Streamed,
            name if LOOKS.iter().any(|look| name.starts_with(look)) => Self::Look,
            _ => Self::Command,
        }
    }

    fn is_stream(self) -> bool {
        matches!(self, Self::Stream | Self::Reflection)
    }

    fn has_one_answer(self) -> bool {
        matches!(self, Self::Look | Self::Command)
    }
}

/// The services, for one connection.
pub(crate) struct Calls {
    services: Worded<Routes>,
    connection: Arc<Connection>,
    peer: TcpConnectInfo,
}

impl Calls {
    /// For the connection over this socket.
    pub(crate) fn new(services: Worded<Routes>, connection: Arc<Connection>, stream: &TcpStream) -> Self {
        Self { services, connection, peer: stream.connect_info() }
    }
}

type Answer = Result<Response<Outbound>, Infallible>;

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<Outbound>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (mut services, connection) = (self.services.clone(), self.connection.clone());
        let open = connection.stream();
        let form = Form::of(request.uri().path());
        let deadline = deadline::of_headers(request.headers());
        let held = (form == Form::Reflection).then(|| connection.answer(REFLECTION_BYTES)).transpose();
        let held = connection.check_call().and(held);
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(self.peer.clone());
        parts.extensions.insert(connection.clone());
        let body = Body::new(Inbound::new(body, &connection, form.is_stream()));
        Box::pin(async move {
            let mut response = match &held {
                Ok(_held) => tokio::select! {
                    answer = services.call(Request::from_parts(parts, body)) => match answer {
                        Ok(response) => response,
                        Err(never) => match never {},
                    },
                    () = deadline::passed(deadline) => deadline::exceeded().into_http(),
                },
                Err(full) => too_many(*full).status().into_http(),
            };
            let turn = response.extensions_mut().remove::<Arc<Turn>>();
            let held = held.ok().flatten();
            let mut response = response.map(|body| Outbound::new(body, connection, open, held));
            if form.has_one_answer()
                && let Err(full) = response.body_mut().encode().await
            {
                let facts = if form == Form::Look { too_many(full) } else { unknown(full) };
                let (parts, body) = facts.status().into_http::<Body>().into_parts();
                response = Response::from_parts(parts, response.into_body().instead(body));
            }
            drop(turn);
            Ok(response)
        })
    }
}

/// What there is too much of, and how much there may be.
fn limit_of(full: Full) -> (String, u64) {
    let unread =
        |whose: &str, limit: u64| (format!("responses that are not read take {limit} bytes in {whose}"), limit);
    match full {
        Full::Calls => (format!("{STREAMS_MAX} calls are open, no more may be"), STREAMS_MAX as u64),
        Full::Responses => unread("all connections", UNREAD_BYTES_MAX),
        Full::OwnResponses => unread("this connection", 2 * UNREAD_BYTES_OWN),
        Full::LargeWaits => ("as many large requests wait as may".to_owned(), LARGE_WAITS_MAX as u64),
    }
}

/// Nothing of it was done.
pub(crate) fn too_many(full: Full) -> Facts {
    let (what, limit) = limit_of(full);
    let next = match full {
        Full::Calls | Full::LargeWaits => "try again",
        Full::Responses | Full::OwnResponses => "read them, and try again",
    };
    Facts::new(&table::TOO_MANY_IN_FLIGHT, format!("{what}; {next}")).with(key::LIMIT, limit)
}

/// It was carried out, and there is no room to say so.
pub(crate) fn unknown(full: Full) -> Facts {
    let (what, _) = limit_of(full);
    let message = format!("there is no room for the answer, so this may stand or not: {what}; ask again");
    Facts::new(&table::OUTCOME_UNKNOWN, message)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tillroll_proto::FILE_DESCRIPTOR_SET;

    use super::*;

    /// A call that is not known here has one answer, and may have changed something.
    #[test]
    fn every_method_has_the_form_that_it_is_served_in() {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("it describes itself");
        let mut count = 0;
        for service in set.file.iter().flat_map(|file| &file.service) {
            for method in &service.method {
                let form = Form::of(&format!("/tillroll.v1.{}/{}", service.name(), method.name()));
                assert_eq!(form.is_stream(), method.client_streaming(), "{}", method.name());
                assert_eq!(form.has_one_answer(), !method.server_streaming(), "{}", method.name());
                count += 1;
            }
        }
        assert!(count > 20, "{count}");
        for file in &set.file {
            assert!(file.encoded_len() * 2 <= REFLECTION_BYTES, "{}", file.name());
        }
    }
}
