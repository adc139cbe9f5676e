//! Goal: no key charges twice and no outcome is made up, whatever goes wrong between a payment service and the gateway,
//! and whichever of them is killed.
//!
//! Method: real sockets, real ledgers, and faults drawn from printed seeds. In the end the ledger is read and compared
//! with what the client was told. Nothing waits for time to pass: what is waited for is counted by one of the sides.

mod house;
mod keys;
mod refusals;
mod faults;
mod reports;
mod kills;
