//! What goes out: every piece is counted until the transport has written it. A piece of a stream counts from the moment
//! at which the transport takes it, which its client decides; the answer to a call is encoded and counted when it is
//! there, or many calls that are not read would keep many answers that nobody counts.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tonic::{Status, body::Body};

use crate::connections::{ANSWER_BYTES_SMALL, Connection, Full, OpenStream, Unread};

/// The body of a response.
pub(crate) struct Outbound {
    /// The answer to a call.
    first: Option<Result<Frame<Bytes>, Status>>,
    inner: Body,
    connection: Arc<Connection>,
    _open: OpenStream,
    _held: Option<Unread>,
}

impl Outbound {
    /// Around this one; what is held is so for as long as the body is there.
    pub(crate) fn new(inner: Body, connection: Arc<Connection>, open: OpenStream, held: Option<Unread>) -> Self {
        Self { first: None, inner, connection, _open: open, _held: held }
    }

    /// The same with another body.
    pub(crate) fn instead(self, inner: Body) -> Self {
        Self { first: None, inner, ..self }
    }

    /// Encodes and counts the answer to a call.
    ///
    /// # Errors
    ///
    /// There is no room for it.
    pub(crate) async fn encode(&mut self) -> Result<(), Full> {
        if self.inner.is_end_stream() {
            return Ok(());
        }
        let first = poll_fn(|context| Pin::new(&mut self.inner).poll_frame(context)).await;
        let Some(Ok(frame)) = first else {
            self.first = first;
            return Ok(());
        };
        self.first = Some(Ok(match frame.into_data() {
            Ok(piece) => {
                let room = self.connection.answer(piece.len())?;
                // It was encoded into a buffer that may be twice as long.
                let piece = if piece.len() > ANSWER_BYTES_SMALL { Bytes::copy_from_slice(&piece) } else { piece };
                Frame::data(Bytes::from_owner(Counted { piece, _room: room }))
            }
            Err(trailers) => trailers,
        }));
        Ok(())
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
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) else { return Poll::Pending };
        let counted = |piece: Bytes| {
            let room = self.connection.unread(piece.len());
            Bytes::from_owner(Counted { piece, _room: room })
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(counted))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.first.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Connections;

    fn answer(connection: &Arc<Connection>, bytes: usize) -> Outbound {
        Outbound::new(Body::new("7".repeat(bytes)), connection.clone(), connection.stream(), None)
    }

    /// The transport asks for an answer when its client reads: what nobody asks for was not counted.
    #[tokio::test]
    async fn an_answer_counts_when_it_is_there_and_until_it_is_written() {
        let all = Connections::new(1);
        let connection = all.open().expect("room");
        let (mut first, mut second) = (answer(&connection, 10_000), answer(&connection, 5));
        assert_eq!((first.encode().await, second.encode().await), (Ok(()), Ok(())));
        assert_eq!(all.used().unread_bytes, 10_005);
        let frame = poll_fn(|context| Pin::new(&mut first).poll_frame(context)).await;
        let piece = frame.expect("a frame").expect("whole").into_data().expect("data");
        drop(first);
        assert_eq!((piece.len(), all.used().unread_bytes), (10_000, 10_005));
        drop((piece, second));
        assert_eq!((all.used().unread_bytes, all.used().streams), (0, 0));
        let _held = connection.unread(33 << 20);
        assert_eq!(answer(&connection, 10_000).encode().await, Err(Full::OwnResponses));
        assert_eq!(answer(&connection, 10).encode().await, Ok(()));
    }
}
