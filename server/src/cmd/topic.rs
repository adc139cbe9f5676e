//! `tillroll topic`: make, list, describe and delete topics.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tillroll_client::{Client, Compression, ErrorKind, PartitionInfo, TopicInfo, TopicOptions};

use crate::cmd::{
    Connection, confirm,
    fail::Failure,
    group::reads,
    out::{Format, Out, counted, size, table},
    time,
};

/// `tillroll topic`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll topic create orders
  tillroll topic create orders --partitions 3 --compression zstd
  tillroll topic list
  tillroll topic describe orders -o json
  tillroll topic delete orders --yes")]
pub(crate) struct Topic {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a topic; repeating it with equal settings is fine
    #[command(after_help = "Examples:
  tillroll topic create orders
  tillroll topic create orders --partitions 3 --compression zstd")]
    Create(Create),
    /// List the topics
    #[command(after_help = "Examples:
  tillroll topic list
  tillroll topic list --prefix order -o jsonl")]
    List {
        /// Only names that begin so
        #[arg(long, default_value = "")]
        prefix: String,
    },
    /// Show a topic's settings and its partitions
    #[command(after_help = "Examples:
  tillroll topic describe orders
  tillroll topic describe orders -o json")]
    Describe {
        /// The topic
        name: String,
    },
    /// Delete a topic with all its records; asks first
    #[command(after_help = "Examples:
  tillroll topic delete orders
  tillroll topic delete orders --yes")]
    Delete {
        /// The topic
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
struct Create {
    /// 1 to 128 of a-z 0-9 . _ -
    name: String,
    /// How many partitions [default: 8]
    #[arg(long, value_name = "COUNT")]
    partitions: Option<u32>,
    /// How stored blocks are compressed [default: lz4]
    #[arg(long)]
    compression: Option<Codec>,
    /// The largest record, up to 3 MiB [default: 1 MiB]
    #[arg(long, value_name = "BYTES")]
    max_record_bytes: Option<u32>,
}

/// How stored blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    /// Not at all
    None,
    /// Cheap
    Lz4,
    /// Small
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// Runs `tillroll topic`.
pub(crate) async fn run(topic: Topic, out: Out) -> Result<(), Failure> {
    let client = topic.connection.connect().await?;
    let admin = client.admin();
    match topic.verb {
        Verb::Create(create) => {
            let options = TopicOptions::default();
            let options = create.partitions.map_or(options.clone(), |count| options.partitions(count));
            let options = match create.compression {
                Some(codec) => options.compression(codec.into()),
                None => options,
            };
            let options = create.max_record_bytes.map_or(options.clone(), |bytes| options.max_record_bytes(bytes));
            let (info, created) = admin.create_topic(create.name, options).await.map_err(differing)?;
            let did = if created { "created" } else { "is there already:" };
            let words = format!("topic {} {did} {}", info.name, settings(&info));
            let mut object = described(&info);
            object["created"] = json!(created);
            out.one(words.replace(" created ", " created: "), &object)
        }
        Verb::List { prefix } => {
            let topics = admin.list_topics(&prefix).await?;
            if topics.is_empty() && out.format == Format::Table {
                out.say("no topics; make one with: tillroll topic create orders");
                return Ok(());
            }
            let rows = topics.iter().map(|info| {
                let compression = compression_name(info.compression);
                let created = time::show(info.created_time_us);
                vec![json!(info.name), json!(info.partition_count), json!(compression), json!(created)]
            });
            out.many(&["name", "partitions", "compression", "created"], rows.collect())
        }
        Verb::Describe { name } => {
            let info = admin.get_topic(&name).await.map_err(Failure::of_existing)?;
            let (made, settings) = (time::show(info.created_time_us), settings(&info));
            let mut words = vec![format!("topic {} (id {}, made {made}): {settings}", info.name, info.topic_id)];
            words.push(String::new());
            words.extend(table(&PARTITION, &info.partitions.iter().map(partition_row).collect::<Vec<_>>()));
            out.one(words, &described(&info))
        }
        Verb::Delete { name, yes } => delete(&client, &name, yes, out).await,
    }
}

async fn delete(client: &Client, name: &str, yes: bool, out: Out) -> Result<(), Failure> {
    let info = client.admin().get_topic(name).await.map_err(Failure::of_existing)?;
    let records = info.partitions.iter().map(|held| held.end_offset - held.head_offset).sum();
    let readers = readers(client, name).await?;
    let named = || format!("group {}", readers.join(", "));
    if !yes {
        let read = if readers.is_empty() { String::new() } else { format!(", which is read by {}", named()) };
        let question = format!("delete topic {} with {}{read}", info.name, counted(records, "record"));
        let doing = if readers.is_empty() { "deleting".to_owned() } else { format!("deleting what {} reads", named()) };
        confirm::by_name(&doing, vec![question], &info.name).await?;
    }
    client.admin().delete_topic(&info.name, &info.topic_id).await?;
    let words = format!("topic {} deleted, {}", info.name, counted(records, "record"));
    let object = json!({
        "name": info.name, "topic_id": info.topic_id, "deleted_records": records, "groups": readers,
    });
    out.one(&words, &object)?;
    if !readers.is_empty() {
        out.say(format!("it was read by {}: a topic that is made under its name is another one to them", named()));
    }
    Ok(())
}

/// The groups that read this topic, and not one that had its name before; none where the broker knows no groups.
async fn readers(client: &Client, topic: &str) -> Result<Vec<String>, Failure> {
    let groups = match client.groups().list(Some(topic)).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => Vec::new(),
        groups => groups?,
    };
    Ok(groups.into_iter().filter(|group| reads(group, topic)).map(|group| group.name).collect())
}

/// Says which settings differ, when that is why.
fn differing(error: tillroll_client::Error) -> Failure {
    let differences = error.metadata().get("differences").cloned();
    let failure = Failure::from(error);
    match differences {
        Some(differences) => {
            failure.hint(format!("it differs in {differences}: name the settings that it has, or another topic"))
        }
        None => failure,
    }
}

fn settings(info: &TopicInfo) -> String {
    format!(
        "{}, {}, records up to {}, segments of {}",
        counted(info.partition_count.into(), "partition"),
        compression_name(info.compression),
        size(info.max_record_bytes.into()),
        size(info.segment_bytes.into()),
    )
}

/// The codec's name, as flags spell it.
pub(crate) fn compression_name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
        _ => "unknown",
    }
}

const PARTITION: [&str; 6] =
    ["partition", "head_offset", "end_offset", "stored_bytes", "first_append_time", "last_append_time"];

fn partition_row(held: &PartitionInfo) -> Vec<Value> {
    let shown = |time_us: i64| if time_us == 0 { Value::Null } else { json!(time::show(time_us)) };
    vec![
        json!(held.partition),
        json!(held.head_offset),
        json!(held.end_offset),
        json!(held.stored_bytes),
        shown(held.first_append_time_us),
        shown(held.last_append_time_us),
    ]
}

fn described(info: &TopicInfo) -> Value {
    let partitions = info.partitions.iter().map(|held| {
        let columns = PARTITION.iter().map(|column| (*column).to_owned());
        Value::Object(columns.zip(partition_row(held)).collect())
    });
    json!({
        "name": info.name,
        "topic_id": info.topic_id,
        "partition_count": info.partition_count,
        "compression": compression_name(info.compression),
        "max_record_bytes": info.max_record_bytes,
        "segment_bytes": info.segment_bytes,
        "created": time::show(info.created_time_us),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}
