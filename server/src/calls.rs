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
    connections::{Connection, Full, STREAMS_MAX, UNREAD_BYTES_MAX, UNREAD_BYTES_OWN},
    refusal::{Facts, table},
    rpc::{Worded, deadline},
};

/// Calls whose client may send messages whenever it likes; of all others one message is expected at once.
const STREAMS: [&str; 3] = ["/AppendStream", "/Consume", "/ServerReflectionInfo"];

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
        let is_stream = STREAMS.iter().any(|name| request.uri().path().ends_with(name));
        let deadline = deadline::of_headers(request.headers());
        let may = connection.check_call();
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(self.peer.clone());
        parts.extensions.insert(connection.clone());
        let body = Body::new(Inbound::new(body, &connection, is_stream));
        Box::pin(async move {
            let response = match may {
                Ok(()) => tokio::select! {
                    answer = services.call(Request::from_parts(parts, body)) => match answer {
                        Ok(response) => response,
                        Err(never) => match never {},
                    },
                    () = deadline::passed(deadline) => deadline::exceeded().into_http(),
                },
                Err(full) => too_many(full).status().into_http(),
            };
            Ok(response.map(|body| Outbound::new(body, connection, open)))
        })
    }
}

fn too_many(full: Full) -> Facts {
    let unread = |whose: &str, limit: u64| {
        (format!("responses that are not read take {limit} bytes in {whose}; read them, and try again"), limit)
    };
    let (message, limit) = match full {
        Full::Calls => (format!("{STREAMS_MAX} calls are open, no more may be; try again"), STREAMS_MAX as u64),
        Full::Responses => unread("all connections", UNREAD_BYTES_MAX),
        Full::OwnResponses => unread("this connection", 2 * UNREAD_BYTES_OWN),
    };
    Facts::new(&table::TOO_MANY_IN_FLIGHT, message).with(key::LIMIT, limit)
}
