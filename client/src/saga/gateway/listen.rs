//! A small HTTP server: connections of HTTP/1.1 and of HTTP/2 on one port, and an end that is bounded.
//!
//! Our own accept loop, because axum's sets no options on connections, and leaves them open when it is dropped.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// Requests at a time on one connection of HTTP/2.
const STREAMS_MAX: u32 = 4_096;
/// After an accept failed (too many open files, for one), the next is tried after this long.
const BACK_OFF: Duration = Duration::from_millis(50);

/// A server that takes connections. Dropping it cuts them.
#[derive(Debug)]
pub(crate) struct Serving {
    address: SocketAddr,
    stop: CancellationToken,
    cut: CancellationToken,
    connections: TaskTracker,
}

impl Serving {
    /// Serves until `stop`; from then on requests under way are answered and no others taken.
    pub(crate) fn start(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<Self> {
        let (address, cut, connections) = (listener.local_addr()?, CancellationToken::new(), TaskTracker::new());
        let accepting = accept_all(listener, router, stop.clone(), cut.clone(), connections.clone());
        let ended = stop.clone();
        connections.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = accepting => {}
            }
        });
        Ok(Self { address, stop, cut, connections })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops, gives requests under way so long to end, and cuts what is left.
    pub(crate) async fn stop(&self, drain: Duration) {
        self.stop.cancel();
        self.connections.close();
        if timeout(drain, self.connections.wait()).await.is_err() {
            tracing::warn!(address = %self.address, "connections are cut that did not end in time");
        }
        self.cut.cancel();
        self.connections.wait().await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
        self.cut.cancel();
    }
}

async fn accept_all(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    cut: CancellationToken,
    connections: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut builder = Builder::new(TokioExecutor::new());
    // Clients that give up on many requests at once are no attack here.
    builder.http2().max_concurrent_streams(STREAMS_MAX).max_pending_accept_reset_streams(STREAMS_MAX as usize);
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        // Small answers must not wait for more to send.
        if stream.set_nodelay(true).is_ok() {
            connections.spawn(serve(stream, slot, builder.clone(), router.clone(), stop.clone(), cut.clone()));
        }
    }
}

async fn serve(
    stream: TcpStream,
    _slot: OwnedSemaphorePermit,
    builder: Builder<TokioExecutor>,
    router: Router,
    stop: CancellationToken,
    cut: CancellationToken,
) {
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // A connection that fails is its client's business.
    tokio::select! {
        biased;
        () = cut.cancelled() => return,
        () = stop.cancelled() => {}
        _ = &mut serving => return,
    }
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        () = cut.cancelled() => {}
        _ = &mut serving => {}
    }
}
