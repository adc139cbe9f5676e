//! What a task says on a stream: responses, and then how it ended. An end that is not said is a failure, never an end
//! that looks well.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::sync::mpsc;
use tonic::Status;

use crate::{connections::Unread, refusal::gave_up};

/// A response, or the end.
pub(super) struct Said<T> {
    what: Result<Option<T>, Status>,
    /// Held for as long as this is.
    _room: Room,
}

/// The room that responses take, which they share when they were packed together. It is free when the transport, which
/// counts by itself, has taken the last of them.
pub(super) type Room = Option<Arc<Unread>>;

impl<T> Said<T> {
    /// A response, in its room.
    pub(super) fn response(response: T, room: Room) -> Self {
        Self { what: Ok(Some(response)), _room: room }
    }

    /// How the stream ends.
    pub(super) fn end(end: Result<(), Status>) -> Self {
        Self { what: end.map(|()| None), _room: None }
    }
}

/// The responses of one call, which a task says.
pub struct Responses<T> {
    said: mpsc::Receiver<Said<T>>,
    is_over: bool,
}

impl<T> Responses<T> {
    /// Responses, and where a task says them; at most `ahead` wait for the connection.
    pub(super) fn new(ahead: usize) -> (mpsc::Sender<Said<T>>, Self) {
        let (sender, said) = mpsc::channel(ahead);
        (sender, Self { said, is_over: false })
    }
}

impl<T> Stream for Responses<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let Poll::Ready(said) = self.said.poll_recv(context) else { return Poll::Pending };
        let response = match said {
            // Its room goes: whoever polls counts what it encodes, before it does anything else.
            Some(Said { what: Ok(Some(response)), .. }) => return Poll::Ready(Some(Ok(response))),
            Some(Said { what: Ok(None), .. }) => None,
            Some(Said { what: Err(status), .. }) => Some(Err(status)),
            None => Some(Err(gave_up().status())),
        };
        self.is_over = true;
        Poll::Ready(response)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tillroll_proto::reason;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::{connections::Connections, refusal::stopping};

    /// What a client gets after the task has said this and is gone.
    async fn heard(said: Vec<Said<u32>>) -> Vec<Result<u32, String>> {
        let (sender, responses) = Responses::new(4);
        for one in said {
            assert!(sender.send(one).await.is_ok(), "there is room");
        }
        drop(sender);
        let reason = |status: Status| status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        responses.map(|response| response.map_err(reason)).collect().await
    }

    #[tokio::test]
    async fn a_call_ends_well_only_when_that_is_said() {
        let seven = || Said::response(7, None);
        assert_eq!(heard(vec![seven(), Said::end(Ok(()))]).await, [Ok(7)]);
        let broken = Err(reason::READ_FAILED.to_owned());
        assert_eq!(heard(vec![seven()]).await, [Ok(7), broken.clone()]);
        assert_eq!(heard(Vec::new()).await, [broken]);
        let stopped = Err(reason::SHUTTING_DOWN.to_owned());
        assert_eq!(heard(vec![Said::end(Err(stopping().status()))]).await, [stopped]);
    }

    /// What waits for a client that does not read is in memory, whoever has it.
    #[tokio::test]
    async fn responses_have_their_room_until_the_last_of_them_is_taken() {
        let all = Connections::new(1);
        let connection = all.open().expect("there is room");
        let (sender, mut responses) = Responses::new(4);
        let room = Some(Arc::new(connection.unread(1_000)));
        for number in [1, 2] {
            assert!(sender.send(Said::response(number, room.clone())).await.is_ok(), "there is room");
        }
        assert!(sender.send(Said::end(Ok(()))).await.is_ok(), "there is room");
        drop(room);
        for left in [1_000, 0] {
            responses.next().await.expect("a response").expect("well");
            assert_eq!(all.used().unread_bytes, left);
        }
        assert!(responses.next().await.is_none());
    }
}
