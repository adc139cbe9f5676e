//! The log of Tillroll.
//!
//! Modules stand in the order in which a record meets them, and each may use only what stands above it. A record is
//! admitted, gets its offset in `sequence`, is made durable by `journal`, readable by `commit` and `tail`, and kept by
//! `flush` in a `segment`. `read` finds it again. `open` believes only the disk, and `driver` makes the stages run.
//!
//! What is absent: the wire, a runtime, any clock but [`env::Env`], any file but through [`disk::Disk`].

#[cfg(not(target_pointer_width = "64"))]
compile_error!("positions in files are kept in memory as `usize`: a 64-bit machine is needed");

// Words.
pub mod id;
pub mod limits;
pub mod settings;
pub mod env;
pub mod stage;
pub mod notice;
pub mod poison;
pub mod marks;
pub mod fields;
pub mod codec;
pub mod record;
pub mod batch;
pub mod error;
pub mod ticket;
pub mod request;
pub mod group;
pub mod budget;
pub mod answer;
pub mod presence;
// The disk, and what is common to its files.
pub mod disk;
pub mod header;
// The road.
pub mod journal;
pub mod table;
pub mod tail;
pub mod admit;
pub mod sequence;
pub mod commit;
pub mod segment;
pub mod flush;
pub mod read;
pub mod open;
pub mod engine;
pub mod driver;
