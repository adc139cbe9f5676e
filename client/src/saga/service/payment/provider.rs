//! The reference gateway, as the payment service asks it.

use std::time::Duration;

use tokio::time::sleep;

use super::{Charge, Charged, Gateway, Operation};
use crate::saga::gateway;

/// A charge that the gateway refuses as such is looked at again after so long.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Asks until the outcome is known. A request that is refused as such was not charged, and is no decline: somebody has
/// to mend the service or the gateway, and until then the order waits, which is logged.
impl Gateway for gateway::Client {
    async fn charge(&self, charge: Charge) -> Charged {
        let asked = gateway::Charge {
            operation: charge.operation.into(),
            order: &charge.order,
            request: charge.request.as_deref(),
            amount: charge.amount,
        };
        loop {
            let outcome = match charge.key.parse() {
                Ok(key) => gateway::Client::charge(self, &key, asked).await.map_err(|refusal| refusal.to_string()),
                Err(fault) => Err(format!("{fault}")),
            };
            match outcome {
                Ok(outcome) => return outcome.verdict.into(),
                Err(refusal) => {
                    tracing::error!(key = %charge.key, %refusal, "the gateway does not take a charge; the order waits");
                    sleep(REFUSED_AGAIN_AFTER).await;
                }
            }
        }
    }
}

impl From<Operation> for gateway::Operation {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Authorize => Self::Authorize,
            Operation::Capture => Self::Capture,
            Operation::Void => Self::Void,
            Operation::Refund => Self::Refund,
        }
    }
}

impl From<gateway::Verdict> for Charged {
    fn from(verdict: gateway::Verdict) -> Self {
        match verdict {
            gateway::Verdict::Accepted => Self::Accepted,
            gateway::Verdict::Declined => Self::Declined,
        }
    }
}
