//! What the tests of more than one room share: the world of the simulation and what it holds the log against, and a
//! server on a real directory.

#![forbid(unsafe_code)]

pub mod dice;
pub mod ledger;
pub mod members;
pub mod passing;
pub mod road;
pub mod world;
