//! What a task says on a stream: responses, and then how it ended. An end that is not said is a failure, never an end
//! that looks well.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::sync::mpsc;
use tonic::Status;

use crate::refusal::gave_up;

/// A response, or the end.
pub(super) type Said<T> = Result<Option<T>, Status>;

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
            Some(Ok(Some(response))) => return Poll::Ready(Some(Ok(response))),
            Some(Ok(None)) => None,
            Some(Err(status)) => Some(Err(status)),
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
    use crate::refusal::stopping;

    /// What a client gets after the task has said this and is gone.
    async fn heard(said: Vec<Said<u32>>) -> Vec<Result<u32, String>> {
        let (sender, responses) = Responses::new(4);
        for one in said {
            sender.send(one).await.expect("there is room");
        }
        drop(sender);
        let reason = |status: Status| status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        responses.map(|response| response.map_err(reason)).collect().await
    }

    #[tokio::test]
    async fn a_call_ends_well_only_when_that_is_said() {
        assert_eq!(heard(vec![Ok(Some(7)), Ok(None)]).await, [Ok(7)]);
        let broken = Err(reason::READ_FAILED.to_owned());
        assert_eq!(heard(vec![Ok(Some(7))]).await, [Ok(7), broken.clone()]);
        assert_eq!(heard(Vec::new()).await, [broken]);
        let stopped = Err(reason::SHUTTING_DOWN.to_owned());
        assert_eq!(heard(vec![Err(stopping().status())]).await, [stopped]);
    }
}
