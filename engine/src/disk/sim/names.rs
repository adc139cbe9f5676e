//! One simulated directory: the names that processes see, the names on the disk, and the changes in between.

use std::collections::{BTreeMap, BTreeSet};

/// What a name stands for.
pub(super) type NodeId = u64;

#[derive(Clone, Debug)]
enum Change {
    Link { name: String, node: NodeId },
    Unlink { name: String, node: NodeId },
    Rename { to: String, node: NodeId },
}

#[derive(Clone, Debug)]
struct Pending {
    /// Place among the changes of all directories.
    order: u64,
    change: Change,
}

/// A directory in both pictures.
#[derive(Clone, Debug, Default)]
pub(super) struct DirImage {
    cached: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
    pending: Vec<Pending>,
}

impl DirImage {
    pub(super) fn cached(&self) -> &BTreeMap<String, NodeId> {
        &self.cached
    }

    pub(super) fn on_disk(&self) -> &BTreeMap<String, NodeId> {
        &self.durable
    }

    pub(super) fn get(&self, name: &str) -> Option<NodeId> {
        self.cached.get(name).copied()
    }

    pub(super) fn link(&mut self, name: &str, node: NodeId, order: u64) {
        self.cached.insert(name.to_owned(), node);
        self.pending.push(Pending { order, change: Change::Link { name: name.to_owned(), node } });
    }

    pub(super) fn unlink(&mut self, name: &str, order: u64) {
        if let Some(node) = self.cached.remove(name) {
            self.pending.push(Pending { order, change: Change::Unlink { name: name.to_owned(), node } });
        }
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, order: u64) {
        if let Some(node) = self.cached.remove(from) {
            self.cached.insert(to.to_owned(), node);
            self.pending.push(Pending { order, change: Change::Rename { to: to.to_owned(), node } });
        }
    }

    /// Changes a name in both pictures at once.
    pub(super) fn set_durably(&mut self, name: &str, node: Option<NodeId>) {
        for names in [&mut self.cached, &mut self.durable] {
            match node {
                Some(node) => names.insert(name.to_owned(), node),
                None => names.remove(name),
            };
        }
        self.pending.retain(|pending| match &pending.change {
            Change::Link { name: changed, .. }
            | Change::Unlink { name: changed, .. }
            | Change::Rename { to: changed, .. } => changed != name,
        });
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.cached);
        self.pending.clear();
    }

    /// The places of the changes that are not durable, in order.
    pub(super) fn orders(&self) -> impl Iterator<Item = u64> + '_ {
        self.pending.iter().map(|pending| pending.order)
    }

    /// Everything that some picture or some change stands for.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        let changed = self.pending.iter().map(|pending| match pending.change {
            Change::Link { node, .. } | Change::Unlink { node, .. } | Change::Rename { node, .. } => node,
        });
        self.cached.values().chain(self.durable.values()).copied().chain(changed)
    }

    /// The power fails: of the pending changes those in `survivors` reached the disk.
    pub(super) fn power(&mut self, survivors: &BTreeSet<u64>) {
        for Pending { order, change } in std::mem::take(&mut self.pending) {
            if !survivors.contains(&order) {
                continue;
            }
            match change {
                Change::Link { name, node } => {
                    self.durable.insert(name, node);
                }
                Change::Unlink { name, node } => {
                    if self.durable.get(&name) == Some(&node) {
                        self.durable.remove(&name);
                    }
                }
                Change::Rename { to, node } => {
                    // One file, one name: an earlier rename of it may not have survived.
                    self.durable.retain(|_, other| *other != node);
                    self.durable.insert(to, node);
                }
            }
        }
        self.cached.clone_from(&self.durable);
    }
}
