//! What a stage is, and what stages share: bounded queues of owned messages.
//!
//! A stage is a struct with [`Stage::step`]. A step takes at most one item and makes at most one changing call on the
//! disk; it blocks on nothing else, spawns nothing, reads no clock and draws no entropy. So the same stages run on
//! threads in production and one at a time, chosen by a seed, in a simulation where every call can be the last.

use std::{collections::VecDeque, sync::Arc, thread::Thread};

use parking_lot::Mutex;

/// The time as the driver tells it, the same for a whole step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since 1970-01-01 UTC; may jump.
    pub wall_us: i64,
    /// Microseconds since some start; never falls.
    pub mono_us: u64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something; step again.
    Did,
    /// Nothing to do until a queue or a mark moves.
    Idle,
    /// Nothing to do until then (monotonic microseconds), unless something moves before.
    Until(u64),
    /// Writes are off for good and this stage has nothing left to answer.
    Poisoned,
}

/// One part of the road, stepped by a driver.
pub trait Stage: Send {
    /// Its name, for threads and traces.
    fn name(&self) -> &'static str;

    /// The bell that wakes it when something moves.
    fn bell(&self) -> &Bell;

    /// Does one thing.
    fn step(&mut self, now: Now) -> Step;
}

/// Wakes the thread that steps a stage. Silent until a thread has taken its place beside it.
#[derive(Clone, Debug, Default)]
pub struct Bell {
    listener: Arc<Mutex<Option<Thread>>>,
}

impl Bell {
    /// Wakes the listener, or lets its next park return at once.
    pub fn ring(&self) {
        if let Some(thread) = &*self.listener.lock() {
            thread.unpark();
        }
    }

    /// From now on rings wake this thread.
    pub fn listen_here(&self) {
        *self.listener.lock() = Some(std::thread::current());
    }
}

/// A bounded queue with one writing and one reading stage. Full means: the writer idles.
#[derive(Debug)]
pub struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    capacity: usize,
    writer: Bell,
    reader: Bell,
}

impl<T> Queue<T> {
    /// A queue of at most `capacity` items between the stages behind two bells.
    pub fn new(capacity: usize, writer: &Bell, reader: &Bell) -> Arc<Self> {
        Arc::new(Self { items: Mutex::new(VecDeque::new()), capacity, writer: writer.clone(), reader: reader.clone() })
    }

    /// Whether one more fits. Stays true for the one writer until it pushes.
    pub fn has_room(&self) -> bool {
        self.items.lock().len() < self.capacity
    }

    /// Adds an item, or gives it back when the queue is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut items = self.items.lock();
        if items.len() >= self.capacity {
            return Err(item);
        }
        items.push_back(item);
        drop(items);
        self.reader.ring();
        Ok(())
    }

    /// Takes the oldest item.
    pub fn pop(&self) -> Option<T> {
        self.pop_if(|_| true)
    }

    /// Takes the oldest item when it is wanted.
    pub fn pop_if(&self, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut items = self.items.lock();
        let was_full = items.len() >= self.capacity;
        let item = if items.front().is_some_and(wanted) { items.pop_front() } else { None };
        drop(items);
        if was_full && item.is_some() {
            self.writer.ring();
        }
        item
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.items.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_the_item_back() {
        let bell = Bell::default();
        let queue = Queue::new(1, &bell, &bell);
        assert_eq!(queue.push(1), Ok(()));
        assert!(!queue.has_room());
        assert_eq!(queue.push(2), Err(2));
        assert_eq!(queue.pop_if(|&item| item == 9), None);
        assert_eq!(queue.pop(), Some(1));
        assert!(queue.is_empty());
    }
}
