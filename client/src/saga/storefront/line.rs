//! What is said on one topic: by a producer with a name, which knows how much of the script is in the log.

use std::{collections::VecDeque, future::Future, pin::Pin, time::Instant};

use tokio::task::JoinHandle;

use super::Acked;
use crate::{Error, ErrorKind, Placed, Producer, ProducerBuilder, Record};

/// Unanswered records of one topic; their bytes are bounded by the producer.
const IN_FLIGHT_RECORDS_MAX: usize = 1_024;

type Answer = Pin<Box<dyn Future<Output = Result<Placed, Error>> + Send>>;

/// One topic.
pub(super) struct Line {
    producer: Producer,
    /// How much of the script is in the log already, and left out.
    pub(super) left_out: u64,
    in_flight: VecDeque<Answer>,
}

impl Line {
    pub(super) async fn open(producer: ProducerBuilder) -> Result<Self, Error> {
        let producer = producer.build().await?;
        Ok(Self { left_out: producer.accepted_records(), producer, in_flight: VecDeque::new() })
    }

    /// Waits for the oldest when too many are unanswered: a record that is refused ends the storefront before the ones
    /// behind it are too many, for from then on the log has not the beginning of the script.
    pub(super) async fn say(&mut self, record: Record, acked: Option<&Acked>) -> Result<(), Error> {
        if self.in_flight.len() >= IN_FLIGHT_RECORDS_MAX
            && let Some(oldest) = self.in_flight.pop_front()
        {
            oldest.await?;
        }
        let since = Instant::now();
        let ticket = self.producer.send(record).await?;
        self.in_flight.push_back(match acked.cloned() {
            None => Box::pin(ticket),
            // Nobody waits for a single ticket, so a task of its own has to see when it is answered.
            Some(acked) => Box::pin(flat(tokio::spawn(async move {
                let placed = ticket.await;
                if placed.is_ok() {
                    acked(since.elapsed());
                }
                placed
            }))),
        });
        Ok(())
    }

    /// Refuses a log that has more than the script.
    pub(super) fn is_through(&self) -> Result<(), Error> {
        if self.left_out == 0 {
            return Ok(());
        }
        let wrong = format!(
            "the log has more of this storefront than there is to say producer={} more={}: play the same shop with the \
             same settings, or take another name",
            self.producer.producer_id(),
            self.left_out
        );
        Err(Error::local(ErrorKind::Conflict, wrong))
    }

    /// Sends what is held and waits until everything is answered.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        self.producer.flush().await?;
        for ticket in self.in_flight.drain(..) {
            ticket.await?;
        }
        Ok(())
    }
}

/// What a task came to. A panic of whoever is told goes on here.
async fn flat(task: JoinHandle<Result<Placed, Error>>) -> Result<Placed, Error> {
    match task.await {
        Ok(placed) => placed,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::local(ErrorKind::Closed, "the runtime ended before the answer came")),
    }
}
