//! The gRPC contract of Tillroll, `tillroll.v1`: generated messages, clients and
//! server traits, the descriptors for reflection, and the spelling of every
//! reason, and what each field of a request may hold. No other logic lives here.
//!
//! The contract itself is in `proto/tillroll/v1/*.proto`, with what each call
//! and field means. Fields of type `bytes` are [`bytes::Bytes`]: a received one
//! is a slice of the message that it came in, and keeps that message alive.
//! Copy a small one out if it is to be kept.

#![forbid(unsafe_code)]

pub mod limits;
pub mod reason;

/// Messages, clients and server traits of package `tillroll.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    clippy::pedantic,
    reason = "generated code: its names and documentation are those of the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("tillroll.v1");
}

/// The same contract for a server: appends and record sets are the bytes that came, and every request is measured
/// against [`limits`] before it is decoded.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    clippy::pedantic,
    reason = "generated code: its names and documentation are those of the .proto files"
)]
pub mod raw {
    include!(concat!(env!("OUT_DIR"), "/raw/tillroll.v1.rs"));
}

/// The encoded `FileDescriptorSet` of `tillroll.v1` and all that it imports,
/// without comments: what server reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));
