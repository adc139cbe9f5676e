//! The server: services on a socket, and an end that is bounded.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use tillroll_engine::engine::Engine;
use tillroll_proto::raw::{
    group_service_server::GroupServiceServer, log_service_server::LogServiceServer,
    operator_service_server::OperatorServiceServer, topic_service_server::TopicServiceServer,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{server::NamedService, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    accept::{Accept, Wire},
    calls::Calls,
    channel,
    connections::{Connection, Connections},
    rpc::{Groups, Log, Operator, Topics, Worded, announce},
};

/// What health checks of writes ask for: NOT_SERVING while every append would be refused.
pub const WRITES: &str = "tillroll.v1.LogService/Append";
/// How often it is looked whether writes are on.
const WRITES_LOOK: Duration = Duration::from_secs(1);
/// How long connections that were cut may take to notice it.
const CUT: Duration = Duration::from_secs(1);

/// What may be set of a server.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Connections at a time; one more is refused.
    pub connections_max: usize,
    /// How long calls in flight may take once the server is told to stop.
    pub drain: Duration,
    /// Serve reflection, for tools like `buf curl`.
    pub reflection: bool,
    /// The data directory, for the status alone.
    pub data_directory: PathBuf,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            connections_max: 2_048,
            drain: Duration::from_secs(10),
            reflection: true,
            data_directory: PathBuf::new(),
        }
    }
}

impl ServerSettings {
    /// With connections for half of the descriptors that there are: the log needs some whatever clients do.
    #[must_use]
    pub fn within(mut self, descriptors: u64) -> Self {
        let half = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
        self.connections_max = self.connections_max.min(half.max(1));
        self
    }
}

/// A server that is bound to its address.
pub struct Server {
    listener: TcpListener,
    engine: Engine,
    settings: ServerSettings,
}

impl Server {
    /// Binds; port 0 takes any free one.
    ///
    /// # Errors
    ///
    /// What the system says of the address.
    pub async fn bind(address: SocketAddr, engine: Engine, settings: ServerSettings) -> io::Result<Self> {
        Ok(Self::on(TcpListener::bind(address).await?, engine, settings))
    }

    /// On a socket that listens already, for whoever has to know that the address is free before there is an engine.
    pub fn on(listener: TcpListener, engine: Engine, settings: ServerSettings) -> Self {
        Self { listener, engine, settings }
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// What the system says of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Logs how much memory clients can take at most, and for what.
    pub fn announce(&self) {
        announce(&self.engine, self.settings.connections_max);
    }

    /// Serves until `stop`; then takes no new call, ends streams, and gives calls in flight `drain` to end. Whatever is
    /// still open behind that is cut.
    ///
    /// # Errors
    ///
    /// When the services cannot be put together; single connections that fail are their clients' business.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (health_reporter, health) = tonic_health::server::health_reporter();
        let log = LogServiceServer::new(Log::new(self.engine.clone(), stop.clone()))
            .max_decoding_message_size(channel::REQUEST_BYTES_MAX)
            .max_encoding_message_size(channel::RESPONSE_BYTES_MAX);
        let topics = TopicServiceServer::new(Topics::new(self.engine.clone()))
            .max_decoding_message_size(channel::REQUEST_BYTES_MAX);
        let groups = GroupServiceServer::new(Groups::new(self.engine.clone(), stop.clone()))
            .max_decoding_message_size(channel::REQUEST_BYTES_MAX);
        let connections = Connections::new(self.settings.connections_max);
        let operator = Operator::new(self.engine.clone(), &self.settings.data_directory, connections.clone());
        let operator = OperatorServiceServer::new(operator);
        health_reporter.set_serving::<LogServiceServer<Log>>().await;
        health_reporter.set_serving::<TopicServiceServer<Topics>>().await;
        health_reporter.set_serving::<GroupServiceServer<Groups>>().await;
        health_reporter.set_serving::<OperatorServiceServer<Operator>>().await;
        let mut routes =
            Routes::new(health).add_service(log).add_service(topics).add_service(groups).add_service(operator);
        if self.settings.reflection {
            routes = routes.add_service(reflect().build_v1()?).add_service(reflect().build_v1alpha()?);
        }
        let watch = tokio::spawn(connections.clone().watch());
        let writes = tokio::spawn(tell_of_writes(self.engine, health_reporter.clone()));
        let (services, open) = (Worded::new(routes.prepare()), TaskTracker::new());
        let mut accept = Accept::new(self.listener, connections.clone());
        loop {
            let (stream, connection) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept.next() => accepted,
            };
            open.spawn(serve_one(stream, connection, services.clone(), stop.clone()));
        }
        drop(accept);
        writes.abort();
        leave(health_reporter).await;
        open.close();
        if tokio::time::timeout(self.settings.drain, open.wait()).await.is_err() {
            let left = connections.used();
            tracing::warn!(left.connections, left.streams, "connections are cut that did not end in time");
            connections.cut();
            if tokio::time::timeout(CUT, open.wait()).await.is_err() {
                tracing::warn!("some calls go on though their connections were cut");
            }
        }
        watch.abort();
        Ok(())
    }
}

/// Serves one connection to its end.
async fn serve_one(stream: TcpStream, connection: Arc<Connection>, services: Worded<Routes>, stop: CancellationToken) {
    let calls = Calls::new(services, connection.clone(), &stream);
    let io = TokioIo::new(Wire::new(stream, connection.clone()));
    let mut served = std::pin::pin!(channel::transport(connection.windows()).serve_connection(io, calls));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            if !connection.is_greeted() {
                connection.cut().cancel();
            }
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
    connection.close();
}

fn reflect() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tillroll_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Keeps the health of [`WRITES`]: reads go on when writes are off, so this is not the health of the whole service.
async fn tell_of_writes(engine: Engine, reporter: HealthReporter) {
    let mut looks = tokio::time::interval(WRITES_LOOK);
    loop {
        looks.tick().await;
        let refused = engine.write_refusal().is_some();
        let status = if refused { ServingStatus::NotServing } else { ServingStatus::Serving };
        reporter.set_service_status(WRITES, status).await;
    }
}

/// Whoever balances load learns it before the connections go; then their streams end, so that none holds up the stop.
async fn leave(mut reporter: HealthReporter) {
    reporter.set_not_serving::<LogServiceServer<Log>>().await;
    reporter.set_not_serving::<TopicServiceServer<Topics>>().await;
    reporter.set_not_serving::<GroupServiceServer<Groups>>().await;
    reporter.set_not_serving::<OperatorServiceServer<Operator>>().await;
    reporter.set_service_status(WRITES, ServingStatus::NotServing).await;
    reporter.set_service_status("", ServingStatus::NotServing).await;
    // A stream still gives out the last status when its sender is gone.
    let served = [
        LogServiceServer::<Log>::NAME,
        TopicServiceServer::<Topics>::NAME,
        GroupServiceServer::<Groups>::NAME,
        OperatorServiceServer::<Operator>::NAME,
        WRITES,
        "",
    ];
    for service in served {
        reporter.clear_service_status(service).await;
    }
}

#[cfg(test)]
mod tests;
