//! How a processor begins: topics are looked up, the group is made or compared, the producer registered, the group
//! joined.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    future::Future,
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinSet;

use super::{Input, Runtime};
use crate::{
    AssignmentRule, Client, Error, ErrorKind, GroupMode, GroupOptions, Limits,
    processor::{
        ProcessorError, Rule, Service, Watch,
        block::Said,
        core::{AppendLimits, Core},
        identity::Ids,
        line::{IDLE_EXPIRY, Line},
        output::OutputTopic,
        settings::Settings,
    },
    retry::Backoff,
};

/// The size of outputs that an append is gathered up to. More does not make it cheaper, and waits longer.
const APPEND_BYTES: usize = 1 << 20;

impl<S: Service> Runtime<S> {
    pub(in crate::processor) async fn start(
        settings: Settings,
        client: Client,
        service: Arc<S>,
        watch: Watch,
    ) -> Result<Self, ProcessorError> {
        let (inputs, outputs) = look_up(&settings, &client, &*service).await?;
        let rule = settings.rule.unwrap_or(Rule::Single);
        let co_partitions = co_partitions(rule, &inputs)?;
        make_group(&settings, &client, service.name(), rule).await?;
        let register = || crate::append::init_producer(&client, None, IDLE_EXPIRY, None);
        let producer = again(&settings, register).await.map_err(ProcessorError::broker("register the producer"))?;
        let builder = client.consumer(service.name()).auto_release(false).retry_for(settings.retry_for);
        let builder = builder.credit_bytes(settings.credit_bytes).client_heartbeats(settings.client_heartbeats);
        let builder = settings.member.iter().fold(builder, crate::ConsumerBuilder::member);
        let consumer = builder.open().await.map_err(ProcessorError::broker("join the group"))?;
        Ok(Self {
            co_partitions,
            inputs,
            output_names: outputs.iter().map(|topic| topic.name.clone()).collect(),
            outputs: outputs.into(),
            limits: append_limits(&client.server().limits),
            consumer,
            line: Line::new(client.clone(), settings.retry_for),
            incarnation: client.server().incarnation,
            core: Core::new(producer.next_sequence),
            producer,
            lanes: BTreeMap::new(),
            units: BTreeMap::new(),
            unit_of: HashMap::new(),
            ready: VecDeque::new(),
            calls: JoinSet::new(),
            call_of: HashMap::new(),
            loads: JoinSet::new(),
            load_of: HashMap::new(),
            last_load: 0,
            saves: JoinSet::new(),
            saving: BTreeSet::new(),
            ids: Ids::new(),
            said: Said::default(),
            counters: watch.counters,
            append_id: 0,
            paused_until: None,
            pauses: Backoff::new(Duration::MAX),
            cursors_due: None,
            stopping: None,
            settings,
            client,
            service,
        })
    }
}

/// Tries again while the broker cannot be reached.
async fn again<T, F>(settings: &Settings, mut call: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut backoff = Backoff::new(settings.retry_for);
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.is_retryable() => error,
            Err(error) => return Err(error),
        };
        let Some(delay) = backoff.after(&error) else { return Err(error) };
        tokio::time::sleep(delay).await;
    }
}

async fn look_up<S: Service>(
    settings: &Settings,
    client: &Client,
    service: &S,
) -> Result<(Vec<Input>, Vec<OutputTopic>), ProcessorError> {
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    let topic = |name: String| {
        again(settings, move || {
            let (client, name) = (client.clone(), name.clone());
            async move { client.admin().get_topic(&name).await }
        })
    };
    for name in &settings.inputs {
        let found = topic(name.clone()).await.map_err(ProcessorError::broker("look up an input"))?;
        inputs.push(Input { name: name.as_str().into(), partitions: found.partition_count });
    }
    for name in service.writes() {
        let found = topic((*name).to_owned()).await.map_err(ProcessorError::broker("look up an output"))?;
        let record_bytes_max = found.max_record_bytes as usize;
        outputs.push(OutputTopic { name: (*name).to_owned(), partitions: found.partition_count, record_bytes_max });
    }
    Ok((inputs, outputs))
}

fn co_partitions(rule: Rule, inputs: &[Input]) -> Result<Option<u32>, ProcessorError> {
    if rule == Rule::Single {
        return Ok(None);
    }
    let count = inputs.first().map_or(0, |input| input.partitions);
    if inputs.iter().any(|input| input.partitions != count) {
        let counts = inputs.iter().map(|input| format!("{}={}", input.name, input.partitions));
        let counts: Vec<String> = counts.collect();
        let wrong =
            format!("partition i of every input goes together, so they need equally many: {}", counts.join(" "));
        return Err(ProcessorError::misconfigured(wrong));
    }
    Ok(Some(count))
}

/// Makes the group, or looks whether the one that is there is the same.
async fn make_group(settings: &Settings, client: &Client, name: &str, rule: Rule) -> Result<(), ProcessorError> {
    let shared = match rule {
        Rule::CoPartitioned => AssignmentRule::CoPartitioned,
        Rule::Single => AssignmentRule::Single,
    };
    let failed = ProcessorError::broker("make the group");
    let groups = client.groups();
    let found = match again(settings, || groups.get(name)).await {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut options = GroupOptions::new(settings.inputs.clone(), GroupMode::Members(shared), settings.start);
            if let Some(session) = settings.session {
                options = options.session(session);
            }
            if let Some(drain) = settings.drain {
                options = options.drain(drain);
            }
            match again(settings, || groups.create(name, options.clone())).await {
                Ok((made, _)) => made,
                // Somebody else made it meanwhile.
                Err(error) if error.reason() == Some(tillroll_proto::reason::GROUP_EXISTS) => {
                    again(settings, || groups.get(name)).await.map_err(failed)?
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(error) => return Err(failed(error)),
    };
    let (reads, asked): (BTreeSet<&String>, BTreeSet<&String>) =
        (found.topics.iter().collect(), settings.inputs.iter().collect());
    if found.mode != GroupMode::Members(shared) || reads != asked {
        let topics = found.topics.join(" ");
        let wrong = format!("group {name} is there and is another: it reads {topics} as {:?}", found.mode);
        return Err(ProcessorError::misconfigured(wrong));
    }
    Ok(())
}

/// What one append may have: well within what the server takes.
fn append_limits(limits: &Limits) -> AppendLimits {
    AppendLimits {
        bytes: APPEND_BYTES.min(limits.max_append_bytes as usize / 2),
        records: limits.max_append_records / 2,
        batches: (limits.max_append_batches as usize / 2).max(1),
        commits: (limits.max_append_batches as usize / 2).max(1),
    }
}
