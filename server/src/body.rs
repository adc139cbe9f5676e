//! The bodies of calls between the transport and the services: what comes in is put together within a budget, what goes
//! out is counted until it is written.

mod inbound;
mod outbound;

pub(crate) use inbound::Inbound;
pub(crate) use outbound::Outbound;
