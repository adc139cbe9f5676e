//! Who waits for a consumer group to change: members, to learn what they hold.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use crate::{
    id::{GroupId, Lsn},
    journal::{Frame, group_op::GroupOp, op::Op},
};

/// When each group changed last, and who waits for it to change again. Cursor commits change nothing for members.
#[derive(Debug, Default)]
pub struct Watch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// All groups: a topic was deleted.
    all: Lsn,
    groups: BTreeMap<GroupId, Lsn>,
    waiters: BTreeMap<u64, (GroupId, Lsn, Waker)>,
    last_turn: u64,
}

impl State {
    fn changed(&self, group: GroupId) -> Lsn {
        self.groups.get(&group).copied().unwrap_or(Lsn(0)).max(self.all)
    }
}

impl Watch {
    /// Wakes those who wait for what these frames, which are published, have changed.
    pub(super) fn wake(&self, frames: &[Frame]) {
        let changes = frames.iter().flat_map(|frame| frame.ops.iter().map(move |op| (frame.lsn, op)));
        let mut changes = changes.filter(|(_, op)| match op {
            Op::Group(op) => !matches!(op, GroupOp::Commit { .. }),
            Op::TopicDelete(_) => true,
            _ => false,
        });
        let Some(first) = changes.next() else { return };
        let mut state = self.state.lock();
        for (lsn, op) in std::iter::once(first).chain(changes) {
            match op {
                Op::Group(op) => {
                    state.groups.insert(op.group(), lsn);
                }
                _ => state.all = lsn,
            }
        }
        let moved: Vec<u64> = state
            .waiters
            .iter()
            .filter(|(_, (group, seen, _))| state.changed(*group) > *seen)
            .map(|(turn, _)| *turn)
            .collect();
        let woken: Vec<_> = moved.iter().filter_map(|turn| state.waiters.remove(turn)).collect();
        drop(state);
        for (_, _, waker) in woken {
            waker.wake();
        }
    }

    /// Resolves with the frame that changed the group, once that is a later one than `seen`.
    pub fn changed(self: &Arc<Self>, group: GroupId, seen: Lsn) -> Changed {
        Changed { watch: self.clone(), group, seen, turn: None }
    }
}

/// See [`Watch::changed`].
#[derive(Debug)]
pub struct Changed {
    watch: Arc<Watch>,
    group: GroupId,
    seen: Lsn,
    turn: Option<u64>,
}

impl Future for Changed {
    type Output = Lsn;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Lsn> {
        let (watch, group, seen) = (self.watch.clone(), self.group, self.seen);
        let mut state = watch.state.lock();
        if let Some(turn) = self.turn.take() {
            state.waiters.remove(&turn);
        }
        let changed = state.changed(group);
        if changed > seen {
            return Poll::Ready(changed);
        }
        state.last_turn += 1;
        let turn = state.last_turn;
        state.waiters.insert(turn, (group, seen, context.waker().clone()));
        self.turn = Some(turn);
        Poll::Pending
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Some(turn) = self.turn {
            self.watch.state.lock().waiters.remove(&turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(changed: &mut Changed) -> Poll<Lsn> {
        Pin::new(changed).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn frame(lsn: u64, op: Op) -> Frame {
        Frame { lsn: Lsn(lsn), time_us: 0, position: 0, ops: vec![op] }
    }

    #[test]
    fn whoever_waits_for_a_group_hears_of_it_and_of_no_other() {
        let watch = Arc::new(Watch::default());
        let gone = |group| Op::Group(GroupOp::MemberGone { group: GroupId(group), member: "a".into() });
        let (mut one, mut other) = (watch.changed(GroupId(1), Lsn(0)), watch.changed(GroupId(2), Lsn(0)));
        assert!(poll(&mut one).is_pending() && poll(&mut other).is_pending());
        watch.wake(&[frame(4, gone(1))]);
        assert_eq!(poll(&mut one), Poll::Ready(Lsn(4)));
        assert!(poll(&mut other).is_pending());
        assert!(poll(&mut watch.changed(GroupId(1), Lsn(4))).is_pending(), "that one was seen");
        watch.wake(&[frame(5, Op::TopicDelete(crate::id::TopicId(1)))]);
        assert_eq!(poll(&mut other), Poll::Ready(Lsn(5)), "it may read the topic");
        drop((one, other));
        assert!(watch.state.lock().waiters.is_empty());
    }
}
