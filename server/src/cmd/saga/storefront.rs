//! `tillroll saga storefront`: puts the orders of a file in, as a shop's own storefront would.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use clap::Args;
use serde_json::json;
use tillroll_client::{
    Client,
    saga::{
        payload::{InventoryUpdated, topic},
        storefront::Storefront,
    },
};

use super::{make_topics, shop};
use crate::cmd::{
    Connection,
    fail::Failure,
    interrupt,
    out::{Out, count, counted},
};

/// `tillroll saga storefront`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll saga storefront                                        1,738 orders of a real shop, and what came of them
  tillroll saga storefront --data online-retail.csv.zst --rate 20

Says the opening stock and waits until the inventory service has taken it in; then orders, wishes to cancel and to
return, and changes of the stock, in the order of the file. Stopped by Ctrl-C or SIGTERM it says how many orders it
placed; started again with the same file it goes on where the log stands.")]
pub(crate) struct Place {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// The orders: a file in the form of "Online Retail", packed with zstd or not [default: a cut that is shipped]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Orders that are placed a second, at most [default: as many as the log takes]
    #[arg(long, value_name = "ORDERS", value_parser = rate)]
    rate: Option<f64>,
    /// Partitions of the topics, when they have to be made
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    partitions: u32,
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "it is a number above 0, such as 20".to_owned())
}

/// Runs `tillroll saga storefront`.
pub(crate) async fn run(place: Place, out: Out) -> Result<(), Failure> {
    let placed = Arc::<AtomicU64>::default();
    tokio::select! {
        done = play(&place, &placed, out) => done,
        code = interrupt() => {
            let placed = counted(placed.load(Ordering::Relaxed), "order");
            out.say(format!("placed {placed} in this run; the same command goes on behind them"));
            Err(Failure::silent(code))
        }
    }
}

/// Puts everything in, and counts the orders that are on disk.
async fn play(place: &Place, placed: &Arc<AtomicU64>, out: Out) -> Result<(), Failure> {
    let client = place.connection.connect().await?;
    let shop = shop(place.data.as_deref())?;
    make_topics(&client, place.partitions).await?;
    let placed = Arc::clone(placed);
    let mut storefront = Storefront::builder(&client).on_placed(move |_| _ = placed.fetch_add(1, Ordering::Relaxed));
    if let Some(rate) = place.rate {
        storefront = storefront.orders_per_s(rate);
    }
    let storefront = storefront.open().await?;
    if storefront.already() > 0 {
        out.say(format!("going on behind {} that are there already", counted(storefront.already(), "event")));
    }
    let opened = async {
        out.say("waiting for the inventory service to take the opening stock in");
        stocked(&client, shop.opening.len() as u64).await?;
        out.say("the opening stock is in: placing orders");
        Ok::<_, Failure>(())
    };
    let told = Box::pin(storefront.play(&shop, opened)).await?;
    let words = format!(
        "placed {} orders, {} requests, {} changes of the stock; {} events were there already",
        count(told.orders),
        count(told.requests),
        count(told.stock_changes),
        count(told.already)
    );
    let object = json!({
        "orders": told.orders,
        "requests": told.requests,
        "stock_changes": told.stock_changes,
        "already": told.already,
    });
    out.one(words, &object)
}

/// Waits until so many changes of the stock are answered.
pub(crate) async fn stocked(client: &Client, changes: u64) -> Result<(), Failure> {
    let mut reader = client.reader(topic::INVENTORY).follow(true).open().await?;
    let mut answered = 0;
    while answered < changes {
        match reader.next().await {
            Some(received) => answered += u64::from(received?.record.type_ == InventoryUpdated::KIND),
            None => return Err(Failure::plain("the inventory has nothing more to say, and not all stock is answered")),
        }
    }
    Ok(())
}
