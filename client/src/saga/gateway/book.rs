//! The book: what every key of the ledger stands for, so that no key charges twice.
//!
//! Pure: no I/O, no clock. [`Book::decide`] says what a request is; [`Book::enter`] takes a new charge in. What must
//! stay true: a key that was entered stays what it is for as long as the ledger lives.

use std::collections::HashMap;

use super::{
    charge::{Key, Operation, Standing, Verdict},
    entry::Entry,
};

/// All keys, and the next number.
#[derive(Debug, Default)]
pub(crate) struct Book {
    known: HashMap<Box<str>, Known>,
    /// Charges so far.
    entries: u64,
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The number of its charge.
    pub(crate) number: u64,
    pub(crate) operation: Operation,
    pub(crate) order: Box<str>,
    pub(crate) amount: u64,
    pub(crate) verdict: Verdict,
    /// It was answered "pending", and its outcome is not to be known yet.
    pub(crate) is_pending: bool,
}

/// What a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// To be charged, under this number.
    Charge { number: u64 },
    /// Charged before.
    Repeat { number: u64, standing: Standing },
    /// Its key stands for something else.
    Mismatch(Known),
}

impl Book {
    /// The book of a ledger.
    pub(crate) fn of(entries: &[Entry]) -> Self {
        let mut book = Self::default();
        for entry in entries {
            book.enter(entry, false);
        }
        book
    }

    /// What a request is. Changes nothing.
    pub(crate) fn decide(&self, key: Option<&Key>, operation: Operation, order: &str, amount: u64) -> Decision {
        let known = key.and_then(|key| self.known.get(key.as_str()));
        match known {
            None => Decision::Charge { number: self.entries + 1 },
            Some(known) if (known.operation, &*known.order, known.amount) == (operation, order, amount) => {
                Decision::Repeat { number: known.number, standing: known.standing() }
            }
            Some(known) => Decision::Mismatch(known.clone()),
        }
    }

    /// Takes in a charge. When a ledger has a key twice, the first one is its outcome.
    pub(crate) fn enter(&mut self, entry: &Entry, is_pending: bool) {
        self.entries += 1;
        debug_assert_eq!(entry.number, self.entries, "entries come in order");
        let Some(key) = &entry.key else { return };
        self.known.entry(key.as_str().into()).or_insert_with(|| Known {
            number: entry.number,
            operation: entry.operation,
            order: entry.order.as_str().into(),
            amount: entry.amount,
            verdict: entry.outcome,
            is_pending,
        });
    }

    /// The outcome of a pending charge may be known from now on.
    pub(crate) fn settle(&mut self, key: &str) {
        if let Some(known) = self.known.get_mut(key) {
            known.is_pending = false;
        }
    }

    /// What is known of a key.
    pub(crate) fn known(&self, key: &str) -> Option<&Known> {
        self.known.get(key)
    }
}

impl Known {
    pub(crate) fn standing(&self) -> Standing {
        if self.is_pending { Standing::Pending } else { self.verdict.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, key: Option<&str>, outcome: Verdict) -> Entry {
        let (operation, order) = (Operation::Authorize, "5".to_owned());
        Entry { number, key: key.map(str::to_owned), operation, order, amount: 100, outcome, time_us: 0 }
    }

    #[test]
    fn a_key_stays_what_it_was_entered_as() {
        let key: Key = "authorize:5".parse().unwrap();
        let mut book = Book::default();
        let decide = |book: &Book, operation, order, amount| book.decide(Some(&key), operation, order, amount);
        assert_eq!(decide(&book, Operation::Authorize, "5", 100), Decision::Charge { number: 1 });
        book.enter(&entry(1, Some(key.as_str()), Verdict::Declined), false);
        let repeat = Decision::Repeat { number: 1, standing: Standing::Declined };
        assert_eq!(decide(&book, Operation::Authorize, "5", 100), repeat);
        for (operation, order, amount) in
            [(Operation::Capture, "5", 100), (Operation::Authorize, "6", 100), (Operation::Authorize, "5", 101)]
        {
            let decision = decide(&book, operation, order, amount);
            assert!(matches!(decision, Decision::Mismatch(_)), "{operation} {order} {amount}");
        }
        // A ledger that has it twice was written by something else; the first one counts.
        book.enter(&entry(2, Some(key.as_str()), Verdict::Accepted), false);
        assert_eq!(decide(&book, Operation::Authorize, "5", 100), repeat);
    }

    #[test]
    fn without_a_key_every_request_charges() {
        let mut book = Book::of(&[entry(1, None, Verdict::Accepted)]);
        for number in 2..5 {
            assert_eq!(book.decide(None, Operation::Authorize, "5", 100), Decision::Charge { number });
            book.enter(&entry(number, None, Verdict::Accepted), false);
        }
    }

    #[test]
    fn a_pending_charge_is_charged_and_told_later() {
        let key: Key = "authorize:5".parse().unwrap();
        let mut book = Book::default();
        book.enter(&entry(1, Some(key.as_str()), Verdict::Accepted), true);
        let decide = |book: &Book| book.decide(Some(&key), Operation::Authorize, "5", 100);
        assert_eq!(decide(&book), Decision::Repeat { number: 1, standing: Standing::Pending });
        book.settle(key.as_str());
        assert_eq!(decide(&book), Decision::Repeat { number: 1, standing: Standing::Accepted });
    }
}
