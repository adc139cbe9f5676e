//! The tables: topics, producers, lanes. Plain maps in memory, changed only by applying a durable frame.
//!
//! [`applied`] is that state; [`follow`] is which frames may come to it; [`row`] is how each row looks on the disk;
//! [`file`] keeps all rows at a checkpoint in two whole files written in turn. Opening = the newest whole file + replay
//! of the frames behind it.

pub mod applied;
pub mod follow;
pub mod group;
pub mod file;
pub mod row;

pub use applied::Applied;
