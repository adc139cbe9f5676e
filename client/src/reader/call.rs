//! One read, over as many `Read` calls as it takes: knows the next offset of
//! each partition, and opens the call again from there when it breaks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tillroll_proto::v1::{self, read_response, start_position::At};
use tokio::time::timeout;

use super::{Event, Position, ReadBatch, ReaderBuilder};
use crate::{Client, Error, ErrorKind, retry::Backoff};

/// What a reader asks the server to send at least this often.
const HEARTBEAT_MS: u32 = 10_000;
/// The longest silence before the server is taken for dead.
const SILENCE: Duration = Duration::from_millis(3 * HEARTBEAT_MS as u64);

pub(crate) struct Call {
    client: Client,
    topic: Arc<str>,
    /// What to ask for, but for the places and the limit.
    request: v1::ReadRequest,
    /// The next offset of each partition that is known.
    next: BTreeMap<u32, u64>,
    /// The next offset of any other partition.
    next_elsewhere: u64,
    limit: Option<u64>,
    follow: bool,
    caught_up: bool,
    /// Somebody was told that it is interrupted.
    interrupted: bool,
    responses: Option<tonic::Streaming<v1::ReadResponse>>,
    backoff: Backoff,
}

impl Call {
    pub(crate) async fn open(settings: ReaderBuilder) -> Result<Self, Error> {
        let ReaderBuilder { client, topic, partitions, from, group, resume, follow, limit, key, retry_for } = settings;
        let place = Place::find(&client, &topic, from, group.as_deref()).await?;
        let chosen = |partition: &u32| partitions.is_empty() || partitions.contains(partition);
        let mut next: BTreeMap<u32, u64> = place.known.into_iter().filter(|(partition, _)| chosen(partition)).collect();
        next.extend(resume);
        let stop = if follow { v1::ReadStop::Follow } else { v1::ReadStop::AtEnd };
        // With a filter the server takes batches apart anyway.
        let format = if key.is_some() { v1::ReadFormat::Records } else { v1::ReadFormat::Encoded };
        let mut call = Self {
            request: v1::ReadRequest {
                topic: topic.clone(),
                partitions,
                start: Some(place.first),
                stop: stop.into(),
                format: format.into(),
                key,
                heartbeat_ms: HEARTBEAT_MS,
                ..v1::ReadRequest::default()
            },
            topic: topic.into(),
            client,
            next,
            next_elsewhere: match place.later {
                Position::Offset(offset) => offset,
                _ => 0,
            },
            limit,
            follow,
            caught_up: false,
            interrupted: false,
            responses: None,
            backoff: Backoff::new(retry_for),
        };
        if call.limit != Some(0) {
            call.responses = Some(call.connect().await?);
        }
        call.request.start = Some(place.later.into_wire());
        Ok(call)
    }

    /// What the read meets next; `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if self.limit == Some(0) || (self.caught_up && !self.follow) {
                return Ok(None);
            }
            let event = match self.receive().await {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Some(Event::Resumed)),
                Err(error) => {
                    self.responses = None;
                    self.pause(error.clone()).await?;
                    if std::mem::replace(&mut self.interrupted, true) {
                        continue;
                    }
                    return Ok(Some(Event::Interrupted(error)));
                }
            };
            // Also a quiet server is one that works.
            self.backoff.reset();
            match event {
                read_response::Event::Heartbeat(_) => {}
                read_response::Event::CaughtUp(_) if self.caught_up => {}
                read_response::Event::CaughtUp(_) => {
                    self.caught_up = true;
                    return Ok(Some(Event::CaughtUp));
                }
                read_response::Event::Batch(batch) => {
                    let batch = self.take(batch)?;
                    if !batch.is_empty() {
                        return Ok(Some(Event::Batch(batch)));
                    }
                }
            }
        }
    }

    fn take(&mut self, batch: v1::Batch) -> Result<ReadBatch, Error> {
        let partition = batch.partition;
        let from = self.next.get(&partition).copied().unwrap_or(self.next_elsewhere);
        let batch = ReadBatch::from_wire(&self.topic, batch, from, self.limit)?;
        self.next.insert(partition, batch.next_offset());
        if let Some(limit) = &mut self.limit {
            *limit -= batch.len() as u64;
        }
        Ok(batch)
    }

    /// The next event of the call; `None` when it was opened again.
    async fn receive(&mut self) -> Result<Option<read_response::Event>, Error> {
        let responses = match self.responses.take() {
            Some(responses) => responses,
            None => connect(&self.client, self.request()).await?,
        };
        let responses = self.responses.insert(responses);
        if std::mem::take(&mut self.interrupted) {
            return Ok(None);
        }
        let message = timeout(SILENCE, responses.message())
            .await
            .map_err(|_| lost(&format!("the server sent nothing for {} s", SILENCE.as_secs())))?
            .map_err(|status| read_error(&self.topic, &status))?;
        let message = message.ok_or_else(|| lost("the server ended the read"))?;
        message.event.map(Some).ok_or_else(|| Error::protocol("the read sent something unknown"))
    }

    async fn connect(&mut self) -> Result<tonic::Streaming<v1::ReadResponse>, Error> {
        loop {
            match connect(&self.client, self.request()).await {
                Ok(responses) => return Ok(responses),
                Err(error) => self.pause(error).await?,
            }
        }
    }

    /// The request that goes on where the read stands.
    fn request(&self) -> v1::ReadRequest {
        v1::ReadRequest {
            resume: self
                .next
                .iter()
                .map(|(&partition, &next_offset)| v1::PartitionOffset { partition, next_offset })
                .collect(),
            max_records: self.limit.unwrap_or(0),
            ..self.request.clone()
        }
    }

    /// Waits before the next try, or says that there is none.
    async fn pause(&mut self, error: Error) -> Result<(), Error> {
        // A connection that dies in the middle of a message shows as an error
        // of the protocol below.
        let broke = error.kind() == ErrorKind::Protocol && error.reason().is_none();
        if !error.is_retryable() && !broke {
            return Err(error);
        }
        tracing::debug!(topic = %self.topic, %error, "read broke");
        let Some(delay) = self.backoff.after(&error) else {
            let seconds = self.backoff.elapsed().as_secs();
            return Err(error.given_up(&format!("gave up after {seconds} s")));
        };
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// Where a reader begins.
struct Place {
    /// The next offsets of partitions, where a start is another place later: they
    /// are looked up once, and a reader that connects again goes on from them.
    known: Vec<(u32, u64)>,
    /// What the first call names as its start.
    first: v1::StartPosition,
    /// Where all other partitions start, now and when the call is opened again.
    later: Position,
}

impl Place {
    async fn find(client: &Client, topic: &str, from: Position, group: Option<&str>) -> Result<Self, Error> {
        if let Some(group) = group {
            let cursors = client.groups().get(group).await?.cursors.into_iter();
            let of_topic = cursors.filter(|cursor| cursor.topic == topic);
            let known = of_topic.map(|cursor| (cursor.partition, cursor.next_offset)).collect();
            // The server knows why a group has no cursor somewhere. From then on it
            // may be deleted, and the reader goes on.
            let first = v1::StartPosition { at: Some(At::Group(group.to_owned())) };
            return Ok(Self { known, first, later: Position::Earliest });
        }
        if from.moves() {
            let known = client.admin().find_offsets(topic, from).await?;
            // Partitions that come later are new as a whole.
            let later = Position::Earliest;
            return Ok(Self { known, first: later.into_wire(), later });
        }
        Ok(Self { known: Vec::new(), first: from.into_wire(), later: from })
    }
}

async fn connect(client: &Client, request: v1::ReadRequest) -> Result<tonic::Streaming<v1::ReadResponse>, Error> {
    let topic = request.topic.clone();
    let answer = client.reads().read(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| read_error(&topic, &status))
}

fn read_error(topic: &str, status: &tonic::Status) -> Error {
    Error::from_status(&format!("read {topic}"), status)
}

fn lost(what: &str) -> Error {
    Error::local(ErrorKind::Unavailable, what)
}
