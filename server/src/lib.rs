//! Tillroll over gRPC: who may, the wire, limits, shutdown. The log itself is the engine's.
//!
//! A call comes in through [`accept`], is turned into the engine's words by [`wire`], done by one of the [`rpc`] rooms,
//! and, when the engine says no, answered by the table in [`refusal`].

#![forbid(unsafe_code)]

pub mod accept;
pub mod channel;
pub mod refusal;
pub mod rpc;
pub mod serve;
pub mod wire;

pub use serve::{Server, ServerSettings};
