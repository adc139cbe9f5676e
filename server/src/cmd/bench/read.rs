//! `tillroll bench read`: a topic is filled, then readers go through it from the earliest record to the end, again and
//! again. Batches are verified by their CRC and counted; their records are not taken apart.

use std::time::{Duration, Instant};

use futures_util::future;
use serde_json::{Value, json};
use tillroll_client::{Client, Position, TopicInfo};

use crate::cmd::{
    bench::{
        AppendPlan, ReadPlan,
        append::{self, Until},
        rates,
    },
    fail::Failure,
    out::{Out, counted, size},
};

/// Records of an append that fills the topic.
const FILL_BATCH_BYTES: u32 = 1 << 20;

/// Fills, then measures.
pub(super) async fn bench(
    server: &str,
    topic: &TopicInfo,
    plan: &ReadPlan,
    out: Out,
) -> Result<(Value, Option<Failure>), Failure> {
    let batch_records = (FILL_BATCH_BYTES / plan.record_bytes).clamp(1, 32_768);
    let filling = AppendPlan {
        partitions: plan.partitions,
        producers: 1,
        record_bytes: plan.record_bytes,
        batch_records,
        in_flight_bytes: 4 << 20,
        rate: None,
        seconds: 1,
        no_verify: true,
    };
    let batch_bytes = u64::from(batch_records) * u64::from(plan.record_bytes);
    let batches = plan.fill_bytes.div_ceil(batch_bytes).max(u64::from(plan.partitions));
    let filled = append::run(server, topic, &filling, Until::Appends(batches)).await?;
    let held: u64 = filled.acked.iter().map(|batch| u64::from(batch.record_count)).sum();
    out.say(format!("the topic holds {}, {}", counted(held, "record"), size(held * u64::from(plan.record_bytes))));

    let start = Instant::now();
    let deadline = start + Duration::from_secs(plan.seconds);
    let readers = (0..plan.readers).map(|_| read(server, topic, held, deadline));
    let counts = future::try_join_all(readers).await?;
    let elapsed = start.elapsed();
    let records: u64 = counts.iter().map(|count| count.records).sum();
    let mut object = rates(records, records * u64::from(plan.record_bytes), elapsed);
    object["rounds"] = json!(counts.iter().map(|count| count.rounds).sum::<u64>());
    object["topic_records"] = json!(held);
    object["partitions"] = json!(plan.partitions);
    object["readers"] = json!(plan.readers);
    object["record_bytes"] = json!(plan.record_bytes);
    Ok((object, None))
}

#[derive(Default)]
struct Count {
    records: u64,
    /// Times that the end was reached.
    rounds: u64,
}

async fn read(server: &str, topic: &TopicInfo, held: u64, deadline: Instant) -> Result<Count, Failure> {
    let client = Client::builder().name("tillroll-bench").connect(server).await?;
    let mut count = Count::default();
    while Instant::now() < deadline {
        let mut reader = client.reader(&topic.name).from(Position::Earliest).open().await?;
        let mut round = 0;
        while let Some(batch) = reader.next_batch().await {
            round += batch?.len() as u64;
            if Instant::now() >= deadline {
                break;
            }
        }
        count.records += round;
        if round == held {
            count.rounds += 1;
        } else if Instant::now() < deadline {
            return Err(Failure::plain(format!("a round found {round} records, the topic holds {held}")));
        }
    }
    Ok(count)
}
