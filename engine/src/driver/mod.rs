//! Drivers make the stages run, and decide nothing: on threads in production, one at a time by a seed in simulation.

#[cfg(feature = "sim")]
pub mod seeded;
pub mod threads;
