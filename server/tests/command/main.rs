//! The command as people and scripts meet it: the real binary, a real shell, a real broker on a port of its own.
//!
//! Method: commands are typed as they stand in the documents ([`shell`]); what they print, say and return is compared
//! word for word where it is an interface.

#[path = "../process/mod.rs"]
mod process;
mod shell;
mod stage;
mod inside;
mod newcomer;
mod broker;
mod start;
mod producer;
mod append;
mod read;
mod consume;
mod storm;
mod bench;
mod group;
mod explained;
mod demo;
mod saga;
mod points;
mod keys;
mod outside;
mod damaged;
mod typed;
mod service;
