//! What the tests of more than one room share: the world of the simulation, and what it holds the log against.

#![forbid(unsafe_code)]

pub mod dice;
pub mod ledger;
pub mod members;
pub mod world;
