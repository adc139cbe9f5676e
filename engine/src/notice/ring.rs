//! Notices on their way to the operator. What must stay true: the ring is bounded, and what it drops is counted.

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll, task::Waker};

use parking_lot::Mutex;

use super::Notice;

/// Notices that wait to be taken; one more is counted and dropped.
const NOTICES_MAX: usize = 256;

/// What was taken out of the ring.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Oldest first.
    pub notices: Vec<Notice>,
    /// Notices that found the ring full since the last time.
    pub dropped: u64,
}

/// The ring, shared by all stages and read by one task.
#[derive(Debug, Default)]
pub struct Notices {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ring: VecDeque<Notice>,
    dropped: u64,
    reader: Option<Waker>,
}

impl Notices {
    /// Adds a notice and wakes the reader. A full ring keeps the older ones, which are nearer to the cause.
    pub fn push(&self, notice: Notice) {
        let mut state = self.state.lock();
        if state.ring.len() < NOTICES_MAX {
            state.ring.push_back(notice);
        } else {
            state.dropped += 1;
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Takes what is there, which may be nothing.
    pub fn take(&self) -> Taken {
        let mut state = self.state.lock();
        Taken { notices: std::mem::take(&mut state.ring).into(), dropped: std::mem::take(&mut state.dropped) }
    }

    /// Waits until there is something and takes it. One reader at a time: a second one replaces the first.
    pub async fn next(&self) -> Taken {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if state.ring.is_empty() && state.dropped == 0 {
                state.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            drop(state);
            Poll::Ready(self.take())
        })
        .await
    }
}

/// A lack that one stage has met: reported when it begins and when it is over, not at every retry.
#[derive(Debug)]
pub struct Lack {
    notices: Arc<Notices>,
    stage: &'static str,
    file: Option<String>,
}

impl Lack {
    /// Nothing is lacking yet.
    pub fn new(notices: Arc<Notices>, stage: &'static str) -> Self {
        Self { notices, stage, file: None }
    }

    /// Something is lacking for `file`.
    pub fn begins(&mut self, file: &str, cause: &std::io::Error) {
        if self.file.is_none() {
            self.file = Some(file.to_owned());
            let (stage, file, cause) = (self.stage, file.to_owned(), cause.to_string());
            self.notices.push(Notice::Lacking { stage, file, cause });
        }
    }

    /// A call that takes something went through.
    pub fn ends(&mut self) {
        if let Some(file) = self.file.take() {
            self.notices.push(Notice::Healed { stage: self.stage, file });
        }
    }

    /// Whether something is lacking.
    pub fn is_on(&self) -> bool {
        self.file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future as _,
        pin::pin,
        sync::atomic::{AtomicU32, Ordering},
        task::{Context, Wake},
    };

    use super::{super::Severity, *};

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_full_ring_keeps_the_oldest_and_counts_the_rest() {
        let notices = Notices::default();
        for free in 0..NOTICES_MAX as u64 + 7 {
            notices.push(Notice::DiskRelieved { free });
        }
        let taken = notices.take();
        assert_eq!((taken.notices.len(), taken.dropped), (NOTICES_MAX, 7));
        assert_eq!(taken.notices[0], Notice::DiskRelieved { free: 0 });
        assert_eq!(notices.take(), Taken::default(), "each is taken once");
    }

    #[test]
    fn a_push_wakes_the_reader() {
        let (notices, woken) = (Notices::default(), Arc::new(Woken::default()));
        let waker = Waker::from(woken.clone());
        let mut next = pin!(notices.next());
        assert_eq!(next.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        notices.push(Notice::DiskRelieved { free: 3 });
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        let expected = Taken { notices: vec![Notice::DiskRelieved { free: 3 }], dropped: 0 };
        assert_eq!(next.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(expected));
    }

    #[test]
    fn a_lack_is_reported_when_it_begins_and_when_it_ends() {
        let notices = Arc::new(Notices::default());
        let mut lack = Lack::new(notices.clone(), "flush");
        let cause = std::io::Error::from_raw_os_error(28);
        lack.ends();
        (0..3).for_each(|_| lack.begins("a", &cause));
        (0..3).for_each(|_| lack.ends());
        let kinds: Vec<_> = notices.take().notices.iter().map(|notice| notice.told().0).collect();
        assert_eq!(kinds, [Severity::Error, Severity::Info]);
    }
}
