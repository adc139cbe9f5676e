//! What a client is waiting for, for whoever wants to know why an order does not go on.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{
    super::charge::{Key, Operation},
    wire::Unknown,
};

/// A charge whose outcome is not known after at least one try. It is asked again until it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trouble {
    /// Its key.
    pub key: Key,
    /// What is asked.
    pub operation: Operation,
    /// The order's name.
    pub order: String,
    /// Pence.
    pub amount: u64,
    /// Tries that told nothing.
    pub attempts: u32,
    /// When it was first asked.
    pub since: SystemTime,
    /// Why the last try told nothing.
    pub last: Unknown,
}

/// All troubles of a client.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_id: BTreeMap<u64, Trouble>,
    next: u64,
}

impl Troubles {
    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Trouble> {
        let mut all: Vec<Trouble> = self.lock().by_id.values().cloned().collect();
        all.sort_by_key(|trouble| trouble.since);
        all
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one charge among the troubles; taken with the first failed try, and given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    troubles: &'a Troubles,
    id: Option<u64>,
}

impl<'a> Place<'a> {
    pub(crate) fn new(troubles: &'a Troubles) -> Self {
        Self { troubles, id: None }
    }

    /// Another try told nothing.
    pub(crate) fn set(&mut self, trouble: Trouble) {
        let mut open = self.troubles.lock();
        let id = *self.id.get_or_insert_with(|| {
            open.next += 1;
            open.next
        });
        open.by_id.insert(id, trouble);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.troubles.lock().by_id.remove(&id);
        }
    }
}
