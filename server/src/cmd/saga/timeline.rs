//! `tillroll saga timeline`: the story of one order over all topics.

use clap::Args;
use serde_json::json;
use tillroll_client::saga::timeline::Timeline;

use crate::cmd::{
    Connection,
    fail::{Code, Failure},
    out::Out,
};

/// `tillroll saga timeline`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll saga timeline 539281
  tillroll saga timeline 539281 -o json | jq .moments

A cause stands before its effects; times count from the placement. A product's code has the story of its stock.")]
pub(crate) struct Story {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// The order's id
    order: String,
}

/// Runs `tillroll saga timeline`.
pub(crate) async fn run(story: Story, out: Out) -> Result<(), Failure> {
    let client = story.connection.connect().await?;
    let timeline = Timeline::read(&client, &story.order).await.map_err(super::not_run)?;
    if timeline.moments.is_empty() {
        let hint = "ids are those of tillroll read orders --format '%k\\n'";
        return Err(Failure::new(Code::NotFound, format!("no event of order {}", story.order)).hint(hint));
    }
    out.one(timeline.lines(), &json!(timeline))
}
