//! The wire without a log: a tonic server that answers appends at once, and a client that sends prepared ones.
//!
//! What the product reaches is held against what this reaches. So everything but the engine is the product's: the
//! contract, the accept loop, the settings of either channel, the number of runtime threads on either end, the
//! allocator.

pub mod settings;
pub mod server;
pub mod client;
