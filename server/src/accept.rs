//! The accept loop and what one connection is to it: our own, because what a connection may cost before it has said
//! anything is ours to decide.

use std::{
    fs::File,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustix::io::Errno;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::Sleep,
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    connections::{Connection, Connections},
    limited_log::LimitedLog,
};

/// After an accept failed, the next is tried after this long.
const BACK_OFF: Duration = Duration::from_millis(50);
/// A connection that has not said hello by then is closed.
const GREETING_WITHIN: Duration = Duration::from_secs(5);
/// The preface of HTTP/2, and the header of the frame that follows it.
const GREETING_BYTES: usize = 24 + 9;

/// Connections from a socket, one after the other.
pub(crate) struct Accept {
    listener: TcpListener,
    connections: Arc<Connections>,
    /// A descriptor in reserve: with none left, a connection is accepted and closed with it, so that its client learns.
    reserve: Option<File>,
    log: LimitedLog,
}

impl Accept {
    /// From this socket.
    pub(crate) fn new(listener: TcpListener, connections: Arc<Connections>) -> Self {
        Self { listener, connections, reserve: reserve(), log: LimitedLog::default() }
    }

    /// The next connection that has a slot.
    pub(crate) async fn next(&mut self) -> (TcpStream, Arc<Connection>) {
        loop {
            match self.listener.accept().await {
                // Small answers must not wait for more to send. A peer that is gone already shows later.
                Ok((stream, _)) if stream.set_nodelay(true).is_ok() => {
                    if let Some(connection) = self.connections.open() {
                        return (stream, connection);
                    }
                }
                Ok(_) => {}
                Err(error) => self.failed(&error).await,
            }
        }
    }

    async fn failed(&mut self, error: &io::Error) {
        let next = Next::after(error);
        if next == Next::GoOn {
            tracing::debug!(%error, "a connection was gone before it was accepted");
            return;
        }
        self.log.warn("connections not accepted", || error.to_string());
        if next == Next::Refuse && self.reserve.take().is_some() {
            // Its descriptor serves to tell one client at least; the kernel's queue keeps the others.
            let refused = tokio::time::timeout(BACK_OFF, self.listener.accept()).await;
            drop(refused);
        } else {
            tokio::time::sleep(BACK_OFF).await;
        }
        if self.reserve.is_none() {
            self.reserve = reserve();
        }
    }
}

/// What follows an accept that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The next one at once: it was about one connection, which is gone.
    GoOn,
    /// Another try after a while: the socket or the system lacks something, and would fail again at once.
    Wait,
    /// There is no descriptor left: one client is told with the one in reserve.
    Refuse,
}

impl Next {
    fn after(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE) => Self::Refuse,
            // What accept(2) lists as errors of the new connection, which the system hands on.
            Some(
                Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::AGAIN
                | Errno::PERM
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::NONET,
            ) => Self::GoOn,
            _ => Self::Wait,
        }
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// A connection as the transport sees it: fails once it is cut, or when it says no hello in time.
pub(crate) struct Wire {
    stream: TcpStream,
    connection: Arc<Connection>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until the hello is there: by when it must be, and how much of it came.
    greeting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Wire {
    /// Over this socket.
    pub(crate) fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        let cut = Box::pin(connection.cut().clone().cancelled_owned());
        let greeting = Some((Box::pin(tokio::time::sleep(GREETING_WITHIN)), 0));
        Self { stream, connection, cut, greeting }
    }

    /// A server always has a read pending, so it is woken here when the connection is cut.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Err(was_cut());
        }
        let is_late = self.greeting.as_mut().is_some_and(|(until, _)| until.as_mut().poll(context).is_ready());
        if is_late { Err(io::Error::new(io::ErrorKind::TimedOut, "no hello came in time")) } else { Ok(()) }
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.connection.wrote(*bytes);
        }
    }
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut")
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let this = &mut *self;
        if let Some((_, come)) = &mut this.greeting {
            *come += buffer.filled().len() - before;
            if *come >= GREETING_BYTES {
                this.greeting = None;
                this.connection.greet();
            }
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        if self.connection.cut().is_cancelled() {
            return Poll::Ready(Err(was_cut()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.connection.cut().is_cancelled() {
            return Poll::Ready(Err(was_cut()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_descriptors_costs_a_client_its_connection() {
        for (errno, expected) in [
            (Errno::MFILE, Next::Refuse),
            (Errno::NFILE, Next::Refuse),
            (Errno::CONNABORTED, Next::GoOn),
            (Errno::CONNRESET, Next::GoOn),
            (Errno::PROTO, Next::GoOn),
            (Errno::NOMEM, Next::Wait),
            (Errno::NOBUFS, Next::Wait),
            (Errno::INVAL, Next::Wait),
        ] {
            assert_eq!(Next::after(&errno.into()), expected, "{errno}");
        }
        assert_eq!(Next::after(&io::Error::other("of no system")), Next::Wait);
    }
}
