//! A broker inside of the test's own process, for what no command can bring about: its engine is at hand, and a service
//! of it can be replaced.

use std::{future::Future, net::SocketAddr};

use tempfile::TempDir;
use tillroll_engine::{driver::threads::Running, engine::Engine, group::Join, settings::Settings};
use tillroll_proto::raw::{
    group_service_server::{GroupService, GroupServiceServer},
    log_service_server::LogServiceServer,
};
use tillroll_server::{Server, ServerSettings, rpc::Log};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

/// The broker; stopped when it is dropped.
pub(crate) struct Inside {
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
    running: Option<Running>,
    _data: TempDir,
}

impl Inside {
    /// A whole broker.
    pub(crate) fn start() -> Self {
        Self::serving(|engine| async move {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let server = Server::bind(any, engine, ServerSettings::default()).await.expect("a free port");
            let address = server.local_addr().expect("it is bound");
            tokio::spawn(async move { server.serve(CancellationToken::new()).await.is_ok() });
            address
        })
    }

    /// One with this stand-in for its consumer groups, and without topics.
    pub(crate) fn with_groups(groups: impl GroupService) -> Self {
        Self::serving(|engine| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            let services = tonic::transport::Server::builder()
                .add_service(LogServiceServer::new(Log::new(engine, CancellationToken::new())))
                .add_service(GroupServiceServer::new(groups));
            tokio::spawn(services.serve_with_incoming(TcpListenerStream::new(listener)));
            address
        })
    }

    fn serving<F: Future<Output = SocketAddr>>(serve: impl FnOnce(Engine) -> F) -> Self {
        let data = tempfile::tempdir().expect("an empty directory");
        let running = Running::start(data.path(), Settings::default()).expect("an engine");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let address = runtime.block_on(serve(running.engine.clone()));
        Self { address, runtime: Some(runtime), running: Some(running), _data: data }
    }

    /// Makes somebody a member of a group.
    pub(crate) fn join(&self, group: &str, member: &str) {
        let join = Join {
            group: group.into(),
            member: member.into(),
            instance: format!("{member}-a"),
            client: "mailer 1.0".into(),
            comes_back: false,
        };
        let (Some(runtime), Some(running)) = (&self.runtime, &self.running) else { return };
        runtime.block_on(running.engine.join(join)).expect("it joins");
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // Nobody may ask the engine any more when it stops.
        drop(self.runtime.take());
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}
