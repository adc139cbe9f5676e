//! How a processor is set up, before it runs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{ProcessorError, Service, Statistics, Watch, fail_point, runtime::Runtime};
use crate::{Client, Position};

/// Which partitions go together: what a unit of the service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Partition i of every input: for a service whose state is kept by key. The inputs have equally many partitions,
    /// and everything about a key stands in the partition that the key belongs to.
    CoPartitioned,
    /// Everything: for a service whose state crosses keys. One member has it, the others stand by.
    Single,
}

/// What becomes of an input that is not what its type says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnMalformed {
    /// The processor stops and names the place.
    #[default]
    Stop,
    /// It is skipped, counted and named; see [`Statistics::malformed`]. It has to stay so for as long as the input is
    /// in the log: whoever makes a state meets it again.
    Skip,
}

/// Settings of a [`Processor`].
#[derive(Debug)]
pub struct ProcessorBuilder<S> {
    settings: Settings,
    client: Client,
    service: Arc<S>,
}

/// What a processor was told.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) member: Option<String>,
    pub(super) inputs: Vec<String>,
    pub(super) rule: Option<Rule>,
    pub(super) start: Position,
    pub(super) session: Option<Duration>,
    pub(super) drain: Option<Duration>,
    pub(super) client_heartbeats: bool,
    pub(super) snapshots: Option<PathBuf>,
    pub(super) snapshot_steps: u64,
    pub(super) on_malformed: OnMalformed,
    pub(super) tries: u32,
    pub(super) calls_in_flight: usize,
    pub(super) appends_in_flight: usize,
    pub(super) credit_bytes: u64,
    pub(super) retry_for: Duration,
    pub(super) stop_within: Duration,
}

/// Runs a service: see [`Processor::builder`].
pub struct Processor<S> {
    settings: Settings,
    client: Client,
    service: Arc<S>,
    watch: Watch,
}

/// What a processor has done, when it was told to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// All that was counted.
    pub statistics: Statistics,
}

impl<S: Service> ProcessorBuilder<S> {
    fn new(client: &Client, service: S) -> Self {
        let settings = Settings {
            member: None,
            inputs: Vec::new(),
            rule: None,
            start: Position::Earliest,
            session: None,
            drain: None,
            client_heartbeats: false,
            snapshots: None,
            snapshot_steps: 100_000,
            on_malformed: OnMalformed::default(),
            tries: 5,
            calls_in_flight: 512,
            appends_in_flight: 8,
            credit_bytes: 8 << 20,
            retry_for: Duration::from_mins(10),
            stop_within: Duration::from_secs(10),
        };
        Self { settings, client: client.clone(), service: Arc::new(service) }
    }

    /// The member's name, the same over restarts, such as `payment-0`; see [`crate::ConsumerBuilder::member`]. Unless
    /// set, a random one.
    #[must_use]
    pub fn member(mut self, name: impl Into<String>) -> Self {
        self.settings.member = Some(name.into());
        self
    }

    /// The topics that the service hears. Required.
    #[must_use]
    pub fn inputs<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.settings.inputs = topics.into_iter().map(Into::into).collect();
        self
    }

    /// What its state is kept for, and so which partitions go together. Required.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.settings.rule = Some(rule);
        self
    }

    /// Where the group begins when it is made; at the earliest record unless set. What is before is observed all the
    /// same: it is part of what the service knows.
    #[must_use]
    pub fn start(mut self, start: Position) -> Self {
        self.settings.start = start;
        self
    }

    /// How long the group keeps partitions for a member that is away, when it is made.
    #[must_use]
    pub fn session(mut self, session: Duration) -> Self {
        self.settings.session = Some(session);
        self
    }

    /// How long a member may take to give partitions back, when the group is made.
    #[must_use]
    pub fn drain(mut self, drain: Duration) -> Self {
        self.settings.drain = Some(drain);
        self
    }

    /// Whether to send heartbeats; see [`crate::ConsumerBuilder::client_heartbeats`].
    #[must_use]
    pub fn client_heartbeats(mut self, wanted: bool) -> Self {
        self.settings.client_heartbeats = wanted;
        self
    }

    /// Keeps snapshots of the state in this directory, which is this process's alone, so that a restart does not read
    /// the whole log; none are kept unless set.
    #[must_use]
    pub fn snapshots(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.snapshots = Some(directory.into());
        self
    }

    /// A snapshot is taken after so many steps of a unit, and when the processor stops; 100,000 unless set.
    #[must_use]
    pub fn snapshot_steps(mut self, steps: u64) -> Self {
        self.settings.snapshot_steps = steps.max(1);
        self
    }

    /// What becomes of malformed inputs; the processor stops unless set.
    #[must_use]
    pub fn on_malformed(mut self, policy: OnMalformed) -> Self {
        self.settings.on_malformed = policy;
        self
    }

    /// How often a step is tried that fails or panics, with growing pauses, before the processor stops; 5 times unless
    /// set.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.settings.tries = tries.max(1);
        self
    }

    /// The most calls that are made at the same time; 512 unless set.
    #[must_use]
    pub fn calls_in_flight(mut self, calls: usize) -> Self {
        self.settings.calls_in_flight = calls.max(1);
        self
    }

    /// The most unanswered appends; 8 unless set. Steps that are decided meanwhile are gathered for the next one.
    #[must_use]
    pub fn appends_in_flight(mut self, appends: usize) -> Self {
        self.settings.appends_in_flight = appends.max(1);
        self
    }

    /// The most bytes of inputs that have come and are not done with; 8 MiB unless set.
    #[must_use]
    pub fn credit_bytes(mut self, bytes: u64) -> Self {
        self.settings.credit_bytes = bytes;
        self
    }

    /// How long the processor tries without any success to reach the broker before it stops; 10 minutes unless set.
    #[must_use]
    pub fn retry_for(mut self, budget: Duration) -> Self {
        self.settings.retry_for = budget;
        self
    }

    /// How long stopping may take: steps in hand are finished, and then the group is left; 10 s unless set.
    #[must_use]
    pub fn stop_within(mut self, time: Duration) -> Self {
        self.settings.stop_within = time;
        self
    }

    /// The processor, ready to run.
    ///
    /// **Errors**: `Misconfigured` without inputs or without a rule, and for an environment variable
    /// [`super::FAIL_POINT_VARIABLE`] that names no point.
    pub fn build(self) -> Result<Processor<S>, ProcessorError> {
        fail_point::arm().map_err(ProcessorError::misconfigured)?;
        if self.settings.inputs.is_empty() {
            return Err(ProcessorError::misconfigured("a processor needs a topic to hear"));
        }
        if self.settings.rule.is_none() {
            return Err(ProcessorError::misconfigured("a processor has to be told what goes together: rule"));
        }
        let Self { settings, client, service } = self;
        Ok(Processor { settings, client, service, watch: Watch::default() })
    }
}

impl<S: Service> Processor<S> {
    /// Settings of a processor that runs this service.
    pub fn builder(client: &Client, service: S) -> ProcessorBuilder<S> {
        ProcessorBuilder::new(client, service)
    }

    /// What it has done so far, also while it runs.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Runs until `stop` is ready: makes the group if there is none, joins it, and for every unit that it holds makes
    /// the state and goes on with the steps. Then it finishes what it has in hand, and leaves.
    ///
    /// Dropping the future is as good as a kill: nothing is lost or done twice.
    ///
    /// **Errors**: see [`ProcessorError`].
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<Report, ProcessorError> {
        let Self { settings, client, service, watch } = self;
        let runtime = Runtime::start(settings, client, service, watch.clone()).await?;
        runtime.run(stop).await?;
        Ok(Report { statistics: watch.read() })
    }
}

impl<S> std::fmt::Debug for Processor<S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Processor").field("settings", &self.settings).finish_non_exhaustive()
    }
}
