//! Goal: what the SDK promises holds over a real broker, a process on a real directory that is killed, stopped and
//! started again.
//!
//! Method: producers and readers run as in any program; the broker ends whenever the log has grown by another slice.
//! Everything that was acked is read back and compared, in place, order and content. Choices come from a seed
//! ([`dice`]) that every test prints.

#[path = "../process/mod.rs"]
mod process;
mod dice;
mod broker;
mod records;
mod restarts;
mod starts;
mod sessions;
mod topics;
mod groups;
mod siblings;
mod rebalance;
mod words;
mod processor;
mod fail_points;
mod hostile;
