//! `Consume`: one stream a member. The group's row says what the member holds; the stream tells it, and sends records
//! within its credit.
//!
//! One task a stream, without durable state: memberships, epochs and cursors are the engine's, changed by frames alone.
//! A stream that breaks ends no membership; the session does, or the member itself. What must stay true: `Assigned`
//! only from the applied row, so that every older epoch is fenced durably; no record of a partition after its
//! `Revoking` or `Lost`; every cursor commit answered once and in order; a sign of life when nothing else flows.

use std::{sync::Arc, time::Duration};

use tillroll_engine::{engine::Engine, group::Join};
use tillroll_proto::v1::{self, consume_request::Action};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    read,
    responses::{Responses, Said},
};
use crate::{
    connections::Connection,
    refusal::{Facts, of_answer, of_refusal, of_transport, required, stopping},
};

mod held;
mod sent;
mod seats;
mod member;
mod flow;

use held::Form;
use member::{Member, Place};
pub(super) use seats::{Seats, Stall, View};

/// Responses between the task and the connection.
const RESPONSES_MAX: usize = 1;
/// How long a stream may take to say who joins.
const JOIN_WITHIN: Duration = Duration::from_secs(10);
/// Why a stream ends before its time.
enum End {
    Refused(Facts),
    Broken(Status),
    /// The client is gone.
    Gone,
}

impl From<Facts> for End {
    fn from(facts: Facts) -> Self {
        Self::Refused(facts)
    }
}

/// Whose stream it is.
pub(super) struct Caller {
    /// What the client calls itself.
    pub(super) client: String,
    /// Its connection.
    pub(super) connection: Option<Arc<Connection>>,
}

/// Serves one member.
pub(super) fn open(
    engine: Engine,
    seats: Seats,
    requests: Streaming<v1::ConsumeRequest>,
    caller: Caller,
    stop: CancellationToken,
) -> Responses<v1::ConsumeResponse> {
    let (sender, responses) = Responses::new(RESPONSES_MAX);
    tokio::spawn(async move {
        let end = tokio::select! {
            () = sender.closed() => return,
            () = stop.cancelled() => Err(stopping().status()),
            ended = serve(engine, seats, requests, caller, sender.clone()) => match ended {
                Ok(()) => Ok(()),
                Err(End::Refused(facts)) => Err(facts.status()),
                Err(End::Broken(status)) => Err(status),
                Err(End::Gone) => return,
            },
        };
        // A client that is gone needs no answer.
        let _gone = sender.send(Said::end(end)).await;
    });
    responses
}

async fn serve(
    engine: Engine,
    seats: Seats,
    mut requests: Streaming<v1::ConsumeRequest>,
    caller: Caller,
    sender: mpsc::Sender<Said<v1::ConsumeResponse>>,
) -> Result<(), End> {
    let first = timeout(JOIN_WITHIN, requests.message()).await;
    let first = first.map_err(|_| required("join", "no join came within 10 s; it is the first message"))?;
    let Some(Action::Join(join)) = taken_in(first)?.and_then(|request| request.action) else {
        return Err(required("join", "the first message of the stream is join").into());
    };
    let form = Form { is_encoded: read::is_encoded(join.format)?, limit: read::limit(join.max_response_bytes)? };
    let id = engine.group(&join.group).map_err(|refusal| of_refusal(&refusal))?.id;
    // There before it is a member, so that no timer finds it missing.
    let who = (id, join.member_id.clone(), join.instance_id.clone());
    let seat = seats.take(who.clone(), engine.attend(who));
    let asked = Join {
        group: join.group.clone(),
        member: join.member_id.clone(),
        instance: join.instance_id.clone(),
        client: caller.client,
        comes_back: join.comes_back,
    };
    let joined = engine.join(asked).await.map_err(|refusal| of_answer(&engine, refusal))?;
    let place = Place { engine, id, seat, form, connection: caller.connection };
    Member::new(place, join, &joined, requests, sender).run().await
}

fn taken_in(message: Result<Option<v1::ConsumeRequest>, Status>) -> Result<Option<v1::ConsumeRequest>, End> {
    message.map_err(|status| match of_transport(&status, "") {
        Some(facts) => End::Refused(facts),
        None => End::Broken(status),
    })
}
