//! `tillroll group`: make, list, describe, pause and delete consumer groups, set their cursors, and ask why one stands
//! still. [`create`] and [`cursor`] have what takes more than a name, [`shown`] how groups are written.

mod create;
mod cursor;
mod shown;

use clap::{Args, Subcommand};
use serde_json::json;
use tillroll_client::{Client, ErrorKind, GroupInfo, GroupMode};

use crate::cmd::{
    Connection, confirm,
    fail::Failure,
    out::{Format, Out, counted},
};

/// `tillroll group`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll group create mailer --topic orders --from earliest --rule spread
  tillroll group list
  tillroll group describe mailer
  tillroll group explain mailer
  tillroll group pause mailer --reason 'the gateway is down'
  tillroll group set-cursor mailer --topic orders --to append-time:2h --dry-run
  tillroll group delete mailer --yes

A group has a cursor in every partition of its topics: the next offset to read. Cursors never expire.")]
pub(crate) struct Group {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a group; repeating it with equal settings is fine
    #[command(after_help = create::EXAMPLES)]
    Create(create::Create),
    /// List the groups with how far they are behind
    #[command(after_help = "Examples:
  tillroll group list
  tillroll group list --topic orders -o jsonl")]
    List {
        /// Only groups that read this topic
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
    },
    /// Show a group's settings, members and cursors
    #[command(after_help = "Examples:
  tillroll group describe mailer
  tillroll group describe mailer -o json | jq .lag_records

The lag is counted in records, and in how long the record at the cursor has been waiting; that is unknown (-, in JSON
null) where the record cannot be read.")]
    Describe {
        /// The group
        name: String,
    },
    /// Say in words why a group does or does not move
    #[command(after_help = "Examples:
  tillroll group explain mailer
  tillroll group explain mailer -o json")]
    Explain {
        /// The group
        name: String,
    },
    /// Send no more records to a group's members until it is resumed
    #[command(after_help = "Examples:
  tillroll group pause mailer --reason 'the gateway is down'")]
    Pause {
        /// The group
        name: String,
        /// Why, for whoever finds it paused
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        reason: String,
    },
    /// Let a paused group go on
    #[command(after_help = "Examples:
  tillroll group resume mailer")]
    Resume {
        /// The group
        name: String,
    },
    /// Set a group's cursors, also backwards; says what that skips or repeats, and asks first
    #[command(after_help = cursor::EXAMPLES)]
    SetCursor(cursor::SetCursor),
    /// Delete a group with its cursors; asks first
    #[command(after_help = "Examples:
  tillroll group delete mailer
  tillroll group delete mailer --with-members --yes")]
    Delete {
        /// The group
        name: String,
        /// Also when it has members, which then lose what they hold
        #[arg(long)]
        with_members: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Whether a group reads this topic still. A topic has partitions, and the group a cursor in each until it is deleted;
/// the name stays with the group.
pub(crate) fn reads(group: &GroupInfo, topic: &str) -> bool {
    group.cursors.iter().any(|at| at.topic == topic)
}

/// Runs `tillroll group`.
pub(crate) async fn run(group: Group, out: Out) -> Result<(), Failure> {
    let client = group.connection.connect().await?;
    match group.verb {
        Verb::Create(create) => create::run(&client, create, out).await,
        Verb::List { topic } => list(&client, topic.as_deref(), out).await,
        Verb::Describe { name } => {
            let info = client.groups().get(&name).await.map_err(Failure::of_existing)?;
            out.one(shown::words(&info), &shown::object(&info))
        }
        Verb::Explain { name } => explain(&client, &name, out).await,
        Verb::Pause { name, reason } => pause(&client, &name, &reason, out).await,
        Verb::Resume { name } => resume(&client, &name, out).await,
        Verb::SetCursor(set) => cursor::run(&client, set, out).await,
        Verb::Delete { name, with_members, yes } => delete(&client, &name, with_members, yes, out).await,
    }
}

async fn list(client: &Client, topic: Option<&str>, out: Out) -> Result<(), Failure> {
    let groups = client.groups().list(topic).await?;
    if groups.is_empty() && out.format == Format::Table {
        let topic = topic.unwrap_or("orders");
        out.say(format!(
            "no groups; make one with: tillroll group create NAME --topic {topic} --from earliest --rule spread"
        ));
        return Ok(());
    }
    let is_table = out.format == Format::Table;
    out.many(&shown::LISTED, groups.iter().map(|info| shown::listed(info, is_table)).collect())
}

async fn explain(client: &Client, name: &str, out: Out) -> Result<(), Failure> {
    let explained = client.groups().explain(name).await.map_err(|error| {
        let is_unknown = error.kind() == ErrorKind::Unsupported;
        let failure = Failure::of_existing(error);
        let instead = format!("members, cursors and lag are shown by: tillroll group describe {name}");
        if is_unknown { failure.hint(instead) } else { failure }
    })?;
    let (words, object) = shown::explained(name, &explained);
    out.one(words, &object)
}

async fn pause(client: &Client, name: &str, reason: &str, out: Out) -> Result<(), Failure> {
    let info = client.groups().pause(name, reason).await.map_err(Failure::of_existing)?;
    out.one(format!("group {name} paused: {reason}"), &shown::object(&info))?;
    if info.mode == GroupMode::Manual {
        out.say("a manual group has no members to hold up: whoever reads for it is only told when asking");
    }
    Ok(())
}

async fn resume(client: &Client, name: &str, out: Out) -> Result<(), Failure> {
    let before = client.groups().get(name).await.map_err(Failure::of_existing)?;
    let info = client.groups().resume(name).await.map_err(Failure::of_existing)?;
    let words = match before.paused {
        Some(reason) => format!("group {name} resumed; it was paused: {reason}"),
        None => format!("group {name} was not paused"),
    };
    out.one(&words, &shown::object(&info))
}

async fn delete(client: &Client, name: &str, with_members: bool, yes: bool, out: Out) -> Result<(), Failure> {
    let info = client.groups().get(name).await.map_err(Failure::of_existing)?;
    let cursors = counted(info.cursors.len() as u64, "cursor");
    if !yes {
        let members = match info.members.len() as u64 {
            0 => String::new(),
            members => format!(" and {}", counted(members, "member")),
        };
        confirm::by_name("deleting", vec![format!("delete group {name} with {cursors}{members}")], name).await?;
    }
    client.groups().delete(name, with_members).await?;
    let object = json!({"name": name, "deleted_cursors": info.cursors.len(), "members": info.members.len()});
    out.one(format!("group {name} deleted, {cursors}"), &object)
}
