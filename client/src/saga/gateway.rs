//! The payment gateway: a provider that pretends to take money, keeps an honest ledger, and misbehaves as it is told;
//! and the client that a payment service asks it with.
//!
//! # What a call means
//!
//! | call | means | answer |
//! |---|---|---|
//! | `POST /v1/authorize` | hold this amount for this order | accepted, declined or pending |
//! | `POST /v1/capture` | take money that is held | accepted or pending |
//! | `POST /v1/void` | free what is held and was not taken | accepted or pending |
//! | `POST /v1/refund` | give back money that was taken | accepted or pending |
//! | `GET /v1/outcomes/{key}` | what is known of a key | its outcome, or 404 |
//! | `GET /v1/ledger` | what was charged, ever | one JSON object a line |
//! | `GET /v1/counts` | what was done, and done wrong | [`Counts`] |
//! | `GET`, `POST /v1/behaviour` | how it misbehaves; named fields are changed, others stay | [`Behaviour`] |
//! | `GET /livez` | whether it listens, down or not | `ok` |
//!
//! The body of a charge is `{"amount": 13912, "order": "536365", "request": "C536379", "callback_url": "http://…"}`:
//! pence, more than 0; the last two fields can be left out. The answer is `{"outcome": "accepted", "charge": 7,
//! "repeated": false}`. The gateway keeps no balance of an order: it does not know whether a capture is covered by what
//! was authorised. To get that right is the saga's part, and [`Entry`] by [`Entry`] the checker looks.
//!
//! # What it promises
//!
//! - **A charge that is answered is in the ledger, and synced.** It is there after any end of the process.
//! - **A key charges once**, for as long as the ledger lives. The header `Idempotency-Key` names the business
//!   operation, `<operation>:<order>[:<request>]` ([`Key::new`]), and never an attempt: the same key again is answered
//!   with the first outcome and `"repeated": true`, from whatever process it comes. The same key for another operation,
//!   order or amount is answered with 422. Without a key every request charges.
//! - **200 is an outcome; 400 and 422 are refusals of the request, and nothing was charged.** Any other status, a
//!   connection that breaks, or silence says nothing: it may have been charged or not, and the same key tells.
//! - **A decline is an outcome like any other.** Only an authorisation is declined; asking again does not change it.
//! - **"Pending" is charged already.** Its outcome is told by a report to `callback_url`, `{"key", "operation",
//!   "amount", "outcome", "charge"}`, or by asking again later. A report may come late, twice, out of order, or never.
//!
//! # The client
//!
//! [`Client::charge`] asks with one key until the outcome is known, and never makes up one: minutes without a gateway
//! are a long call and no decline. [`Client::trouble`] says what it is waiting for, [`Callbacks`] takes reports.
//!
//! ```
//! use tillroll_client::saga::gateway::{Charge, Client, ClientSettings, Operation, Server, ServerSettings, Verdict};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("gateway.ledger");
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let server = Server::start(listener, &path, ServerSettings::default())?;
//! let client = Client::new(server.address(), ClientSettings::default());
//!
//! let charge = Charge { operation: Operation::Authorize, order: "536365", request: None, amount: 13_912 };
//! let first = client.charge(&charge.key()?, charge).await?;
//! let again = client.charge(&charge.key()?, charge).await?;
//! assert_eq!((first.verdict, first.repeated), (Verdict::Accepted, false));
//! assert_eq!((again.charge, again.repeated), (first.charge, true));
//! assert_eq!(client.ledger().await?.len(), 1);
//! server.stop().await;
//! # Ok(()) }
//! ```

mod charge;
mod entry;
mod ledger;
mod behaviour;
mod counts;
mod book;
mod listen;
mod reports;
mod server;
mod callbacks;
mod client;

pub use behaviour::{Behaviour, BehaviourFault, DelayMs};
pub use callbacks::{CallbackCounts, Callbacks};
pub use charge::{KEY_HEADER, Key, KeyFault, Operation, Standing, Verdict};
pub use client::{Charge, Client, ClientSettings, Outcome, QueryError, Refusal, Trouble, Unknown};
pub use counts::{Counts, Injected};
pub use entry::{Entry, LineFault};
pub use ledger::{LedgerError, Opened, Whole, read as read_ledger};
pub use server::{Server, ServerSettings, StartError};
