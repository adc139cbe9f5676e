//! The Rust SDK of Tillroll.
//!
//! A [`Client`] knows one broker. From it come a [`Producer`], which appends
//! records and gives a [`Ticket`] for each; a [`Reader`], which is a stream of
//! records; an [`Admin`], which makes, describes and deletes topics; and
//! [`Groups`], which does so with consumer groups and moves their cursors; and a
//! [`Consumer`], which is a member of a group and a stream of what it is given.
//! Below the producer stand [`Client::append`] for one append with conditions and
//! cursor commits, and [`AppendSession`] for whoever prepares batches and stamps.
//!
//! On top of them stands [`processor`]: a service is a plain function from an
//! event and what it knows to events, and the processor sees to it that each
//! event is answered once. The feature `saga` has the reference, the services of
//! a shop.
//!
//! ```no_run
//! # async fn run() -> Result<(), tillroll_client::Error> {
//! use tillroll_client::{Client, Position, Record, TopicOptions};
//!
//! let client = Client::connect("127.0.0.1:7420").await?;
//! client.admin().create_topic("orders", TopicOptions::default()).await?;
//!
//! let producer = client.producer("orders").build().await?;
//! let ticket = producer.send(Record::new(r#"{"total":1999}"#).key("42")).await?;
//! let placed = ticket.await?; // on disk
//! println!("partition {} offset {}", placed.partition, placed.offset);
//!
//! let mut reader = client.reader("orders").from(Position::Earliest).open().await?;
//! while let Some(received) = reader.next().await {
//!     println!("{:?}", received?.record.value);
//! }
//! # Ok(()) }
//! ```
//!
//! No type of the wire stands in this interface, but for [`bytes::Bytes`].

#![forbid(unsafe_code)]

mod error;
mod record;
mod partition;
mod batch;
mod decode;
mod retry;
#[doc(hidden)]
pub mod channel;
mod server;
mod status;
mod client;
mod append;
mod session;
mod inflight;
mod producer;
mod reader;
mod consumer;
mod admin;
mod group;
pub mod processor;
#[cfg(feature = "saga")]
pub mod saga;

pub use admin::{Admin, PartitionInfo, ProducerInfo, Segment, TopicInfo, TopicOptions};
pub use append::{Append, Appended, AppendedBatch, Durability, PastAppend, ProducerIdentity, Stamp};
pub use batch::{BatchWriter, Compression, EncodedBatch};
pub use client::{Client, ClientBuilder};
pub use consumer::{
    CommitTicket, Consumer, ConsumerBuilder, ConsumerEvent, DeliveredBatch, Delivery, HeldPartition, LostReason,
};
pub use error::{Error, ErrorKind};
pub use group::{
    Assignment, AssignmentRule, BelowHead, CursorCommit, CursorInfo, CursorMove, Finding, GroupExplanation, GroupInfo,
    GroupMode, GroupOptions, GroupUpdate, Groups, MemberInfo, SetCursors,
};
pub use partition::partition_for_key;
pub use producer::{BatchTicket, Placed, PlacedBatch, Producer, ProducerBuilder, ProducerStatistics, Ticket};
pub use reader::{Event, Position, ReadBatch, Reader, ReaderBuilder, Received};
pub use record::Record;
pub use server::{Limits, ServerInfo};
pub use session::{AppendSession, SessionOutcome, SessionOutcomes, SessionSender};
pub use status::{MemoryBudget, ServerStatus, WriteState};
