//! Benchmarks. The criterion benches of the rooms stand in `benches/`, programs that compare whole roads in `src/bin/`.
//!
//! Here is what they share: records to send ([`payload`]), the journal's stages on a disk of choice ([`road`]), a
//! server that does nothing but answer ([`bare`]), other programs as processes ([`process`]), and numbers for people
//! ([`figures`]).

#![forbid(unsafe_code)]

pub mod payload;
pub mod nowhere;
pub mod road;
pub mod figures;
pub mod process;
pub mod bare;
