//! What holds a service up, in its log: a gateway that does not answer, once when it begins and once when it is over;
//! and streams to the broker that break, each second in which some did.

use std::{net::SocketAddr, time::Duration};

use tillroll_client::{processor::Watch, saga::gateway};
use tokio::time::interval;
use tracing::warn;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Charges that are asked for longer than this are told of.
const LONG: Duration = Duration::from_secs(3);

/// Tells when charges wait for the gateway, for as long as it runs.
pub(super) async fn watch_gateway(client: gateway::Client, address: SocketAddr) {
    let mut ticks = interval(LOOK_EVERY);
    let mut is_away = false;
    loop {
        ticks.tick().await;
        let mut troubles = client.trouble();
        troubles.retain(|trouble| trouble.since.elapsed().is_ok_and(|since| since > LONG));
        match troubles.first() {
            Some(oldest) if !is_away => {
                let (charges, order, why) = (troubles.len(), &oldest.order, &oldest.last);
                warn!(gateway = %address, charges, %order, %why, "the gateway does not answer; orders wait for it");
                is_away = true;
            }
            None if is_away => {
                warn!(gateway = %address, "the gateway answers again");
                is_away = false;
            }
            _ => {}
        }
    }
}

/// Tells when a stream to the broker broke, for as long as it runs.
pub(super) async fn watch_broker(watch: Watch) {
    let mut ticks = interval(LOOK_EVERY);
    let mut seen = 0;
    loop {
        ticks.tick().await;
        let broken = watch.read().broken_streams;
        if broken > seen {
            warn!("streams to the broker broke; they are opened again, and nothing is lost");
            seen = broken;
        }
    }
}
