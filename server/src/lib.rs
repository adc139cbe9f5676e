//! Tillroll over gRPC: who may, the wire, limits, shutdown. The log itself is the engine's.
//!
//! A call comes in over one of the [`connections`], is turned into the engine's words by [`wire`], done by one of the
//! [`rpc`] rooms, and, when the engine says no, answered by the table in [`refusal`].

#![forbid(unsafe_code)]

mod accept;
mod body;
mod calls;
pub mod channel;
pub mod connections;
mod limited_log;
pub mod notices;
pub mod refusal;
pub mod rpc;
pub mod serve;
pub mod wire;

pub use serve::{Server, ServerSettings};
