//! What goes out: every piece is counted from the moment at which the transport takes it until it has written it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use crate::connections::{Connection, OpenStream, Unread};

/// The body of a response.
pub(crate) struct Outbound {
    inner: Body,
    connection: Arc<Connection>,
    _open: OpenStream,
}

impl Outbound {
    /// Around this one.
    pub(crate) fn new(inner: Body, connection: Arc<Connection>, open: OpenStream) -> Self {
        Self { inner, connection, _open: open }
    }
}

/// A piece on its way, and the room that it takes: both go when the transport has written it.
struct Counted {
    piece: Bytes,
    _room: Unread,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl http_body::Body for Outbound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) else { return Poll::Pending };
        let counted = |piece: Bytes| {
            let room = self.connection.unread(piece.len());
            Bytes::from_owner(Counted { piece, _room: room })
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(counted))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
