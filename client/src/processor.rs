//! The processor: runs a service, exactly once from event to event.
//!
//! [`service`] says what a service is, [`sibling`] how outputs of a step name one another before they have ids, and
//! [`step`] how steps are named in the log.

mod service;
mod sibling;
mod step;
mod block;
mod unit;
mod flight;
mod core;
mod append;
mod envelope;
mod input;
mod output;
mod identity;
mod timers;
mod fail_point;
mod caught;
mod statistics;
mod error;
mod snapshot;
mod load;
mod line;
mod settings;
mod runtime;

pub use error::ProcessorError;
pub use fail_point::{ALL as FAIL_POINTS, FailPoint, VARIABLE as FAIL_POINT_VARIABLE};
pub use service::{Fact, Failed, Malformed, Output, Place, Service, Timer, Told, Trigger};
pub use settings::{OnMalformed, Processor, ProcessorBuilder, Report, Rule};
pub use sibling::{identify, resolve_sibling, sibling};
pub use statistics::{Statistics, Watch};
pub use step::{Cause, NoStep, STEP_HEADER, StepName};
