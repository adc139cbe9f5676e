//! A member of a consumer group that handles each record exactly once.
//!
//! What comes of a record and the cursor that moves behind it are one append: both are in the log, or neither. The
//! cursor carries the epoch under which the partition is held, so an append that comes too late, when somebody else has
//! the partition, changes nothing; and a stamp, so that one whose answer was lost can be sent again.
//!
//! Says what happens as JSON, one object a line, and leaves the group when its standard input ends.
//!
//! ```text
//! member SERVER GROUP MEMBER INPUT OUTPUT
//! ```

use std::{
    error::Error,
    io::{Read as _, Write as _},
    time::Duration,
};

use serde_json::{Value, json};
use tillroll_client::{
    Append, Appended, Client, Consumer, ConsumerEvent, CursorCommit, DeliveredBatch, Delivery, ProducerIdentity, Record,
};
use tokio::sync::oneshot;

/// Records of one append.
const RECORDS_MAX: usize = 20;
/// How long the broker remembers this producer while it is idle.
const PRODUCER_IDLE: Duration = Duration::from_hours(1);
/// How long to wait before an append is tried again, unless the broker says.
const RETRY_AFTER: Duration = Duration::from_millis(200);

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, group, member, input, output] = arguments.as_slice() else {
        return Err("usage: member SERVER GROUP MEMBER INPUT OUTPUT".into());
    };
    let client = Client::connect(server).await?;
    let consumer = client.consumer(group.as_str()).member(member.as_str()).auto_release(false).open().await?;
    say(&json!({ "said": "joined", "resumed": false, "instance": consumer.instance_id() }))?;
    let identity = client.init_producer(None, PRODUCER_IDLE).await?;
    let names = Names { group: group.clone(), input: input.clone(), output: output.clone() };
    Worker { sequence: identity.next_sequence, client, consumer, identity, names }.run().await
}

/// What it is about.
struct Names {
    group: String,
    input: String,
    output: String,
}

struct Worker {
    client: Client,
    consumer: Consumer,
    identity: ProducerIdentity,
    /// Of the next append. One that is refused leaves its number to the next.
    sequence: u64,
    names: Names,
}

impl Worker {
    async fn run(mut self) -> Outcome<()> {
        let mut told_to_leave = input_ends();
        loop {
            // Dropping the future of `next_event` loses nothing.
            let event = tokio::select! {
                _ = &mut told_to_leave => break,
                event = self.consumer.next_event() => event,
            };
            match event {
                Some(event) => self.take(event?).await?,
                None => return Err("the consumer ended".into()),
            }
        }
        // What was handed out is appended, so nothing is given up halfway.
        Ok(self.consumer.close().await?)
    }

    async fn take(&mut self, event: ConsumerEvent) -> Outcome<()> {
        match event {
            ConsumerEvent::Batch(batch) => self.handle(batch).await,
            ConsumerEvent::Assigned(_) => say(&json!({ "said": "assigned", "held": self.held() })),
            ConsumerEvent::Revoking { partitions, .. } => {
                // One append at a time: what was handed out of them is answered already.
                for partition in &partitions {
                    self.consumer.release(partition);
                }
                let numbers: Vec<u32> = partitions.iter().map(|partition| partition.partition).collect();
                say(&json!({ "said": "revoking", "partitions": numbers }))?;
                say(&json!({ "said": "lost", "reason": "RELEASED", "held": self.held() }))
            }
            ConsumerEvent::Lost { reason, .. } => {
                say(&json!({ "said": "lost", "reason": reason.to_string(), "held": self.held() }))
            }
            ConsumerEvent::Stalled { error, .. } | ConsumerEvent::CommitRefused { error, .. } => Err(error.into()),
            // A connection that broke is the consumer's own affair.
            _ => Ok(()),
        }
    }

    /// Partitions and their epochs.
    fn held(&self) -> Vec<(u32, u64)> {
        self.consumer.held().iter().map(|held| (held.partition, held.assignment_epoch)).collect()
    }

    /// Handles the records of a batch, unless it turns out that the partition is somebody else's by now.
    async fn handle(&mut self, mut batch: DeliveredBatch) -> Outcome<()> {
        let (partition, epoch) = (batch.partition(), batch.assignment_epoch());
        while !batch.is_empty() {
            let deliveries: Vec<Delivery> = batch.records().take(RECORDS_MAX).collect::<Result<_, _>>()?;
            let (Some(first), Some(last)) = (deliveries.first(), deliveries.last()) else { break };
            let (first, next) = (first.received.offset, last.received.offset + 1);
            let moved = CursorCommit::new(&self.names.group, &self.names.input, partition, next);
            let append = Append::new()
                .records(&self.names.output, deliveries.iter().map(|delivery| self.output(delivery)))
                .commit_cursor(moved.assignment_epoch(epoch).expected_offset(first));
            let said = json!({ "place": [partition, epoch], "first": first, "next": next });
            match self.append(append).await {
                Ok(appended) => say(&with(said, "done", appended.duplicate))?,
                Err(error) if error.reason() == Some("ASSIGNMENT_FENCED") => return say(&with(said, "fenced", false)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What comes of a record: here, the same in capitals.
    fn output(&self, delivery: &Delivery) -> Record {
        let (received, names) = (&delivery.received, &self.names);
        let source = &received.record;
        let step = format!("{}/{}/{}/{}/0/1", names.group, names.input, received.partition, received.offset);
        let (member, instance) = (self.consumer.member_id(), self.consumer.instance_id());
        let by = format!("{member}/{instance}/{}", delivery.assignment_epoch);
        let mut output = Record::new(source.value.to_ascii_uppercase())
            .id(format!("handled-{}", source.id))
            .type_("OrderHandled.v1")
            .source(member)
            .correlation_id(&source.correlation_id)
            .causation_id(&source.id)
            .header("tillroll-step", step)
            .header("handled-by", by);
        output.key.clone_from(&source.key);
        output
    }

    /// Sends an append until it is answered, under one stamp: however often it arrives, it is written once.
    async fn append(&mut self, append: Append) -> Result<Appended, tillroll_client::Error> {
        let stamped = append.stamp(self.identity.stamp(self.sequence, self.sequence));
        loop {
            match self.client.append(stamped.clone()).await {
                Ok(appended) => {
                    self.sequence += 1;
                    return Ok(appended);
                }
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(error.retry_after().unwrap_or(RETRY_AFTER)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn with(mut said: Value, what: &str, is_duplicate: bool) -> Value {
    said["said"] = what.into();
    said["duplicate"] = is_duplicate.into();
    said
}

fn say(what: &Value) -> Outcome<()> {
    Ok(writeln!(std::io::stdout(), "{what}")?)
}

/// Resolves when nothing more comes on standard input. A thread of its own, which holds nobody up at the end.
fn input_ends() -> oneshot::Receiver<()> {
    let (ended, ends) = oneshot::channel();
    std::thread::spawn(move || {
        // An input that cannot be read has ended as well.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        // Nobody may be waiting any more.
        let _ = ended.send(());
    });
    ends
}
