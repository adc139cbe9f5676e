//! The reference gateway, as the payment service asks it.

use super::{Charge, Charged, Gateway, Refused};
use crate::saga::gateway;

/// Asks until the outcome is known, or the request is refused as such, which charged nothing.
impl Gateway for gateway::Client {
    async fn charge(&self, charge: Charge) -> Result<Charged, Refused> {
        let Charge { operation, key, order, request, amount } = &charge;
        let (operation, request, amount) = (*operation, request.as_deref(), *amount);
        let asked = gateway::Charge { operation, order, request, amount };
        match gateway::Client::charge(self, key, asked).await {
            Ok(outcome) => Ok(outcome.verdict.into()),
            Err(refusal) => Err(Refused { key: charge.key, wrong: refusal.to_string() }),
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
