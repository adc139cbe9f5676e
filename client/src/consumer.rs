//! The consumer: a member of a group, and a stream of the records of the partitions that the group gives it.
//!
//! [`desk`] knows what is held, what has come and was not taken, and which commits are unanswered; [`shared`] puts it
//! between the program and [`task`], which keeps one `Consume` call going. Here is what a program sees.

mod event;
mod commit;
mod desk;
mod shared;
mod task;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use uuid::Uuid;

pub use commit::CommitTicket;
pub use event::{ConsumerEvent, DeliveredBatch, Delivery, HeldPartition, LostReason};

use crate::{Client, Error, retry};
use desk::Phase;
use shared::{Shared, Took};

/// Settings of a [`Consumer`].
#[derive(Clone, Debug)]
pub struct ConsumerBuilder {
    client: Client,
    group: String,
    member: Option<String>,
    credit_bytes: u64,
    client_heartbeats: bool,
    auto_release: bool,
    retry_for: Duration,
}

/// What the task needs to know.
#[derive(Clone, Debug)]
struct Settings {
    client: Client,
    group: Arc<str>,
    member_id: Arc<str>,
    instance_id: Arc<str>,
    leaves_when_dropped: bool,
    client_heartbeats: bool,
    retry_for: Duration,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client, group: String) -> Self {
        Self {
            client,
            group,
            member: None,
            credit_bytes: 8 << 20,
            client_heartbeats: false,
            auto_release: true,
            retry_for: retry::BUDGET,
        }
    }

    /// The member's name, the same over restarts of its process, such as `payment-0`: whoever joins under it takes its
    /// partitions over at once. Unless set, a random one that leaves the group when the consumer is dropped.
    #[must_use]
    pub fn member(mut self, name: impl Into<String>) -> Self {
        self.member = Some(name.into());
        self
    }

    /// The most bytes of records that have come and are not done with; 8 MiB unless set. They count as done with when
    /// the next record, or batch, is asked for.
    #[must_use]
    pub fn credit_bytes(mut self, bytes: u64) -> Self {
        self.credit_bytes = bytes.max(1);
        self
    }

    /// Whether to send heartbeats: needed behind a proxy, which keeps a connection open whose client is gone.
    #[must_use]
    pub fn client_heartbeats(mut self, wanted: bool) -> Self {
        self.client_heartbeats = wanted;
        self
    }

    /// Whether a partition that the group wants back is given back by itself, as soon as everything of it that was
    /// handed out is committed; so unless set. Otherwise [`Consumer::release`] does it.
    #[must_use]
    pub fn auto_release(mut self, wanted: bool) -> Self {
        self.auto_release = wanted;
        self
    }

    /// How long the consumer tries without any success before it gives up; two minutes unless set.
    #[must_use]
    pub fn retry_for(mut self, budget: Duration) -> Self {
        self.retry_for = budget;
        self
    }

    /// Joins the group.
    ///
    /// **Errors**: `NotFound` without such a group; `InvalidInput` for a bad name, or a group without members;
    /// `Unsupported` when the server knows no members.
    pub async fn open(self) -> Result<Consumer, Error> {
        // New for each start of a process, and of each consumer in it: the same name and instance means that it is the
        // same consumer that comes back.
        let instance_id: Arc<str> = Uuid::now_v7().to_string().into();
        let leaves_when_dropped = self.member.is_none();
        let settings = Settings {
            client: self.client,
            group: self.group.into(),
            member_id: self.member.unwrap_or_else(|| format!("m-{}", Uuid::now_v7())).into(),
            instance_id,
            leaves_when_dropped,
            client_heartbeats: self.client_heartbeats,
            retry_for: self.retry_for,
        };
        let shared = Arc::new(Shared::new(self.credit_bytes, self.auto_release));
        task::start(settings.clone(), Arc::clone(&shared)).await?;
        Ok(Consumer { shared, settings, current: None })
    }
}

/// A member of a group, and a stream of the records that the group gives it. Order holds within a partition.
///
/// Nothing is committed unless the program says so: see [`Consumer::commit`] and [`Consumer::commit_after`]. Whatever
/// is not committed comes again, to this member or to another one.
///
/// When the connection breaks, the consumer comes back as the same member and goes on behind the last record that it
/// handed out. An error item that is about one partition or one commit does not end the stream: [`Consumer::is_closed`]
/// tells.
///
/// ```no_run
/// # async fn run(client: tillroll_client::Client) -> Result<(), tillroll_client::Error> {
/// let mut consumer = client.consumer("mailer").member("mailer-0").open().await?;
/// while let Some(delivery) = consumer.next().await {
///     let delivery = delivery?;
///     println!("{:?}", delivery.received.record.value);
///     delivery.commit().await?;
/// }
/// # Ok(()) }
/// ```
pub struct Consumer {
    shared: Arc<Shared>,
    settings: Settings,
    current: Option<DeliveredBatch>,
}

impl Consumer {
    /// The next record, or `None` when the consumer has ended. Dropping the future loses nothing.
    ///
    /// **Errors**: `Fenced` (`TAKEN_OVER`) when another process joined under this member's name, which is final and not
    /// to be answered by joining again; `Fenced` or `Conflict` for a commit that was refused and whose ticket nobody
    /// holds; whatever holds up one partition; `DataLoss` for a damaged batch.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        std::future::poll_fn(|context| self.poll_record(context)).await
    }

    /// The next batch of one partition: faster than one record at a time. `None` when the consumer has ended.
    pub async fn next_batch(&mut self) -> Option<Result<DeliveredBatch, Error>> {
        loop {
            match self.next_event().await? {
                Ok(ConsumerEvent::Batch(batch)) => return Some(Ok(batch)),
                Ok(event) => {
                    if let Some(error) = event.into_error() {
                        return Some(Err(error));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next batch, or what else the consumer meets. `None` when it has ended.
    pub async fn next_event(&mut self) -> Option<Result<ConsumerEvent, Error>> {
        if let Some(rest) =
            self.current.take().filter(|rest| !rest.is_empty() && self.shared.hand_out(&rest.place(rest.next_offset())))
        {
            return Some(Ok(ConsumerEvent::Batch(rest)));
        }
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Says that everything up to and including this record is done with in its partition. It is sent at once, together
    /// with whatever else waits; the ticket tells when it is durable. A refusal that no ticket tells comes up as an
    /// event.
    pub fn commit(&self, delivery: &Delivery) -> CommitTicket {
        delivery.commit()
    }

    /// Calls `handler` with each record, and commits the record when it returns. Ends with the stream, or with the
    /// first error of either.
    pub async fn commit_after<H, F, E>(&mut self, mut handler: H) -> Result<(), E>
    where
        H: FnMut(Delivery) -> F,
        F: Future<Output = Result<(), E>>,
        E: From<Error>,
    {
        while let Some(delivery) = self.next().await {
            let delivery = delivery?;
            let place = delivery.place();
            handler(delivery).await?;
            drop(self.shared.commit(&place));
        }
        Ok(())
    }

    /// Gives back a partition that the group wants back, whatever of it is not committed.
    pub fn release(&self, partition: &HeldPartition) {
        self.shared.release(partition);
    }

    /// Stops or resumes the records of one partition, so that one that is stuck does not take the credit of the others.
    pub fn hold(&self, partition: &HeldPartition, held: bool) {
        self.shared.hold(partition, held);
    }

    /// What the member holds now, by topic and partition. `next_offset` is where the next record that is handed out
    /// comes from, at the least.
    pub fn held(&self) -> Vec<HeldPartition> {
        self.shared.held()
    }

    /// The member's name.
    pub fn member_id(&self) -> &str {
        &self.settings.member_id
    }

    /// The name of this run of the member.
    pub fn instance_id(&self) -> &str {
        &self.settings.instance_id
    }

    /// How long the group keeps partitions for a member that is away.
    pub fn session(&self) -> Duration {
        self.shared.session()
    }

    /// Nothing comes any more.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Leaves the group: waits until every commit is answered, and lets the partitions go at once. Nothing is lost:
    /// what is not committed comes again to another member.
    ///
    /// **Errors**: the first refusal of a commit that no ticket told; what ended the consumer before; `Unavailable`
    /// when the group could not be left in time, and then the session's end does it.
    pub async fn close(mut self) -> Result<(), Error> {
        self.current = None;
        self.shared.close(Phase::Closing);
        let mut first = None;
        while let Some(event) = std::future::poll_fn(|context| self.poll_event(context)).await {
            let error = match event {
                Ok(event) => event.into_error(),
                Err(error) => Some(error),
            };
            first = first.or(error);
        }
        first.map_or(Ok(()), Err)
    }

    fn poll_record(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        loop {
            if let Some(batch) = &mut self.current {
                match batch.next_of(&self.shared) {
                    Some(Ok(delivery)) => return Poll::Ready(Some(Ok(delivery))),
                    Some(Err(error)) => {
                        self.current = None;
                        self.shared.end(None);
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => self.current = None,
                }
            }
            match ready!(self.poll_took(context, false)) {
                Some(Ok(ConsumerEvent::Batch(batch))) => self.current = Some(batch),
                Some(Ok(event)) => {
                    if let Some(error) = event.into_error() {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<ConsumerEvent, Error>>> {
        self.poll_took(context, true)
    }

    /// `whole`: a batch counts as handed out with all its records.
    fn poll_took(&mut self, context: &mut Context<'_>, whole: bool) -> Poll<Option<Result<ConsumerEvent, Error>>> {
        match self.shared.take(context, whole) {
            Took::Event(event) => Poll::Ready(Some(Ok(event))),
            Took::Ended(Some(error)) => Poll::Ready(Some(Err(error))),
            Took::Ended(None) => Poll::Ready(None),
            Took::Nothing => Poll::Pending,
        }
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_record(context)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.close(Phase::Dropped);
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Consumer")
            .field("group", &self.settings.group)
            .field("member_id", &self.settings.member_id)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
