//! How a gateway misbehaves: which faults, how often, and how late it is.
//!
//! Every request that arrives draws its fate from one seeded stream of numbers, always as many numbers: the fate of the
//! n-th request of a process follows from the seed, the charges in the ledger when it began, n, and the behaviour of
//! that moment. A gateway that fell over does not meet the same fates again when it comes back. No fate follows from a
//! key, so that asking again can end well; only a decline stays with its key, as the ledger remembers it.

use std::time::Duration;

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng as _, SeedableRng as _},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// The longest delay that can be asked for, in milliseconds.
const DELAY_MS_MAX: u64 = 3_600_000;

/// From the first number of milliseconds to the second, both included. In JSON `[50, 500]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayMs(pub u64, pub u64);

/// What a gateway does to those that ask, as chances from 0 to 1 and ranges of time. By default it does everything at
/// once and accepts everything.
///
/// ```
/// use tillroll_client::saga::gateway::Behaviour;
/// let often: Behaviour = serde_json::from_str(r#"{"decline": 0.02, "time_out": 0.01, "late_ms": [5, 50]}"#)?;
/// assert_eq!(often, Behaviour { decline: 0.02, time_out: 0.01, ..often.clone() });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Everything that asks for money is answered with 503, and nothing is charged.
    pub down: bool,
    /// A new authorisation is declined; its key stays declined.
    pub decline: f64,
    /// An answer takes longer, by `late_ms`.
    pub late: f64,
    /// How much longer.
    pub late_ms: DelayMs,
    /// A new charge with a key is answered "pending". It is in the ledger already; its outcome is reported, and told to
    /// those that ask again, after `report_ms`.
    pub pending: f64,
    /// How long an outcome stays pending.
    pub report_ms: DelayMs,
    /// A report comes later than its outcome is known, by `report_late_ms`.
    pub report_late: f64,
    /// How much later.
    pub report_late_ms: DelayMs,
    /// A report comes twice.
    pub report_doubled: f64,
    /// A report waits until a later charge's report has gone first.
    pub report_out_of_order: f64,
    /// Never answered: charged and in the ledger, but whoever asked learns nothing until he gives up. Hits requests
    /// that repeat a key, too.
    pub time_out: f64,
    /// The gateway falls over once a new charge is in the ledger, before it is answered.
    pub fall_over: f64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            down: false,
            decline: 0.0,
            late: 0.0,
            late_ms: DelayMs(50, 500),
            pending: 0.0,
            report_ms: DelayMs(10, 200),
            report_late: 0.0,
            report_late_ms: DelayMs(500, 3_000),
            report_doubled: 0.0,
            report_out_of_order: 0.0,
            time_out: 0.0,
            fall_over: 0.0,
        }
    }
}

/// Why a behaviour is not taken on.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum BehaviourFault {
    /// It is no JSON object, or has a field that is not known, or of another type.
    #[error("a behaviour is not what is expected: {0}")]
    Form(String),
    /// A chance is not from 0 to 1.
    #[error("a chance is not from 0 to 1 field={field} found={found}")]
    Chance {
        /// The field.
        field: &'static str,
        /// Its value.
        found: f64,
    },
    /// Pending, timing out and falling over exclude each other, so their chances share one.
    #[error("the chances of pending, time_out and fall_over are more than 1 together found={found}")]
    Ends {
        /// Their sum.
        found: f64,
    },
    /// A range runs backwards, or to more than an hour.
    #[error("a delay runs backwards or beyond {DELAY_MS_MAX} ms field={field} found={found:?}")]
    Delay {
        /// The field.
        field: &'static str,
        /// Its value.
        found: DelayMs,
    },
}

impl Behaviour {
    /// This behaviour with the fields of a JSON object in place of its own: what is not named stays as it is.
    ///
    /// ```
    /// use tillroll_client::saga::gateway::Behaviour;
    /// let declining = Behaviour { decline: 0.5, ..Behaviour::default() };
    /// let down = declining.changed(br#"{"down": true}"#)?;
    /// assert_eq!(down, Behaviour { down: true, ..declining });
    /// # Ok::<(), tillroll_client::saga::gateway::BehaviourFault>(())
    /// ```
    ///
    /// **Errors**: when the result would be none.
    pub fn changed(&self, changes: &[u8]) -> Result<Self, BehaviourFault> {
        let form = |error: serde_json::Error| BehaviourFault::Form(error.to_string());
        let mut fields = serde_json::to_value(self).map_err(form)?;
        let Value::Object(changes) = serde_json::from_slice(changes).map_err(form)? else {
            return Err(BehaviourFault::Form("not an object".to_owned()));
        };
        for (field, value) in changes {
            fields[field] = value;
        }
        let after: Self = serde_json::from_value(fields).map_err(form)?;
        after.check()?;
        Ok(after)
    }

    /// Whether chances and ranges make sense.
    ///
    /// **Errors**: the first that does not.
    pub fn check(&self) -> Result<(), BehaviourFault> {
        let chances = [
            ("decline", self.decline),
            ("late", self.late),
            ("pending", self.pending),
            ("report_late", self.report_late),
            ("report_doubled", self.report_doubled),
            ("report_out_of_order", self.report_out_of_order),
            ("time_out", self.time_out),
            ("fall_over", self.fall_over),
        ];
        if let Some(&(field, found)) = chances.iter().find(|(_, chance)| !(0.0..=1.0).contains(chance)) {
            return Err(BehaviourFault::Chance { field, found });
        }
        let found = self.pending + self.time_out + self.fall_over;
        if found > 1.0 {
            return Err(BehaviourFault::Ends { found });
        }
        let delays =
            [("late_ms", self.late_ms), ("report_ms", self.report_ms), ("report_late_ms", self.report_late_ms)];
        match delays.iter().find(|(_, DelayMs(low, high))| low > high || *high > DELAY_MS_MAX) {
            Some(&(field, found)) => Err(BehaviourFault::Delay { field, found }),
            None => Ok(()),
        }
    }
}

/// What becomes of one request, if it is of the kind that this can happen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) is_declined: bool,
    pub(crate) end: End,
    pub(crate) late: Option<Duration>,
    pub(crate) report: Plan,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Answer,
    Pending,
    TimeOut,
    FallOver,
}

/// How the outcome of a pending charge is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// From the sync to the end of being pending.
    pub(crate) due: Duration,
    /// From then to the report.
    pub(crate) late: Option<Duration>,
    pub(crate) is_doubled: bool,
    pub(crate) is_out_of_order: bool,
}

/// The stream that fates are drawn from.
#[derive(Debug)]
pub(crate) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// The next request's fate.
    pub(crate) fn fate(&mut self, behaviour: &Behaviour) -> Fate {
        let [decline, end, late, late_by, due, report_late, report_late_by, doubled, out_of_order] =
            std::array::from_fn(|_| self.chance());
        let end = if end < behaviour.fall_over {
            End::FallOver
        } else if end < behaviour.fall_over + behaviour.time_out {
            End::TimeOut
        } else if end < behaviour.fall_over + behaviour.time_out + behaviour.pending {
            End::Pending
        } else {
            End::Answer
        };
        Fate {
            is_declined: decline < behaviour.decline,
            end,
            late: (late < behaviour.late).then(|| behaviour.late_ms.at(late_by)),
            report: Plan {
                due: behaviour.report_ms.at(due),
                late: (report_late < behaviour.report_late).then(|| behaviour.report_late_ms.at(report_late_by)),
                is_doubled: doubled < behaviour.report_doubled,
                is_out_of_order: out_of_order < behaviour.report_out_of_order,
            },
        }
    }

    /// A number from 0 to 1, which it never is.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn chance(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl DelayMs {
    /// The delay at a place between 0 and 1 of the range.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a range is an hour at most, and the place positive"
    )]
    fn at(self, place: f64) -> Duration {
        let Self(low, high) = self;
        Duration::from_millis(low + (place * (high - low + 1) as f64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_not_named_stay_as_they_are() {
        let before = Behaviour { decline: 0.25, late_ms: DelayMs(1, 2), ..Behaviour::default() };
        let after = before.changed(br#"{"down":true,"late_ms":[3,4]}"#).unwrap();
        assert_eq!(after, Behaviour { down: true, late_ms: DelayMs(3, 4), ..before.clone() });
        assert_eq!(before.changed(b"{}").unwrap(), before);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
        fn check(changes: &str, expected: &str) {
            let fault = Behaviour::default().changed(changes.as_bytes()).unwrap_err().to_string();
            assert!(fault.contains(expected), "{changes}: {fault}");
        }
        check("", "not what is expected");
        check("[]", "not an object");
        check(r#"{"declines":1}"#, "unknown field `declines`");
        check(r#"{"decline":"often"}"#, "invalid type");
        check(r#"{"decline":1.5}"#, "field=decline found=1.5");
        check(r#"{"late":-0.1}"#, "field=late found=-0.1");
        check(r#"{"pending":0.5,"time_out":0.5,"fall_over":0.5}"#, "more than 1 together found=1.5");
        check(r#"{"late_ms":[5,4]}"#, "field=late_ms found=DelayMs(5, 4)");
        check(r#"{"report_ms":[0,3600001]}"#, "field=report_ms");
    }

    #[test]
    fn fates_follow_from_seed_and_place_and_are_as_frequent_as_told() {
        const REQUESTS: u32 = 20_000;
        let seed = 7;
        println!("seed={seed}");
        let behaviour = Behaviour {
            decline: 0.1,
            late: 0.2,
            late_ms: DelayMs(5, 9),
            pending: 0.3,
            report_doubled: 0.4,
            time_out: 0.05,
            fall_over: 0.01,
            ..Behaviour::default()
        };
        let draw = |behaviour: &Behaviour| {
            let mut dice = Dice::new(seed);
            (0..REQUESTS).map(|_| dice.fate(behaviour)).collect::<Vec<_>>()
        };
        let fates = draw(&behaviour);
        assert_eq!(fates, draw(&behaviour));
        let check = |expected: f64, of: &dyn Fn(&Fate) -> bool| {
            let found: f64 = fates.iter().map(|fate| if of(fate) { 1.0 / f64::from(REQUESTS) } else { 0.0 }).sum();
            assert!((found - expected).abs() < 0.02, "expected {expected}, found {found}");
        };
        check(0.1, &|fate| fate.is_declined);
        check(0.2, &|fate| fate.late.is_some());
        check(0.3, &|fate| fate.end == End::Pending);
        check(0.4, &|fate| fate.report.is_doubled);
        check(0.05, &|fate| fate.end == End::TimeOut);
        check(0.01, &|fate| fate.end == End::FallOver);
        for late in 5..=9 {
            check(0.04, &|fate| fate.late == Some(Duration::from_millis(late)));
        }
        // A chance that changes leaves the other fates as they were.
        let calm = Behaviour { time_out: 0.0, late: 0.0, ..behaviour.clone() };
        let declined = |fates: &[Fate]| fates.iter().map(|fate| fate.is_declined).collect::<Vec<_>>();
        assert_eq!(declined(&draw(&calm)), declined(&fates));
    }
}
