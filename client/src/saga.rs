//! The order saga: the reference of how services work together over a log, good enough to be copied into a shop.
//! `docs/saga.md` tells it as a story.

pub mod payload;
pub mod service;
pub mod retail;
pub mod storefront;
pub mod gateway;
pub mod check;
pub mod timeline;
#[doc(hidden)]
pub mod world;

#[cfg(test)]
mod tests;
