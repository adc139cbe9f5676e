//! Commits on their way: what waits to be sent, what was sent and is not answered, and the tickets of both.
//!
//! Pure: no I/O. Commits of one partition that wait are one, since a later one says all that an earlier one does. What
//! is not answered when a stream breaks is sent again: a cursor that is there already, or beyond, is as good as a yes.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tillroll_proto::{
    reason,
    v1::{self, committed},
};
use tokio::sync::oneshot;

use crate::{Error, ErrorKind};

/// The most partitions in one commit.
const PARTITIONS_MAX: usize = 1_000;
/// The most unanswered commits.
const UNANSWERED_MAX: usize = 64;

/// How far one partition is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) assignment_epoch: u64,
    pub(super) next_offset: u64,
}

/// Resolves when a commit is durable, or to why it was refused. Dropping it changes nothing but who is told of a
/// refusal.
#[derive(Debug)]
pub struct CommitTicket {
    answer: oneshot::Receiver<Result<(), Error>>,
}

impl Future for CommitTicket {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        Poll::Ready(answer.unwrap_or_else(|_| Err(closed().with_unknown_outcome())))
    }
}

/// The error of whoever asks a consumer that has ended.
pub(super) fn closed() -> Error {
    Error::local(ErrorKind::Closed, "the consumer is closed")
}

/// The error of a commit for a partition that is not held under that epoch.
pub(super) fn not_held(place: &Place) -> Error {
    let Place { topic, partition, assignment_epoch, .. } = place;
    Error::refused(
        ErrorKind::Fenced,
        reason::ASSIGNMENT_FENCED,
        format!("the partition is not held any more topic={topic} partition={partition} epoch={assignment_epoch}"),
        &[
            (reason::key::TOPIC, topic.to_string()),
            (reason::key::PARTITION, partition.to_string()),
            (reason::key::EPOCH, assignment_epoch.to_string()),
        ],
    )
}

/// One partition's part of a commit, and who waits for it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    tickets: Vec<oneshot::Sender<Result<(), Error>>>,
}

impl Entry {
    /// Tells everybody; the error comes back when somebody did not listen.
    fn tell(self, result: &Result<(), Error>) -> Option<(Place, Error)> {
        let mut told = true;
        for ticket in self.tickets {
            told &= ticket.send(result.clone()).is_ok();
        }
        let error = result.as_ref().err().filter(|_| !told)?;
        Some((self.place, error.clone()))
    }

    fn to_wire(&self) -> v1::CursorCommit {
        v1::CursorCommit {
            group: String::new(),
            topic: self.place.topic.to_string(),
            partition: self.place.partition,
            next_offset: self.place.next_offset,
            assignment_epoch: Some(self.place.assignment_epoch),
            ..v1::CursorCommit::default()
        }
    }
}

/// What came of a commit's answer.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Cursors that are there now.
    pub(super) moved: Vec<Place>,
    /// Cursors that do not go there.
    pub(super) refused: Vec<Place>,
    /// Refusals that no ticket told.
    pub(super) untold: Vec<(Place, Error)>,
}

#[derive(Debug)]
struct Sent {
    commit_id: u64,
    entries: Vec<Entry>,
}

/// All commits that are not answered.
#[derive(Debug, Default)]
pub(super) struct Commits {
    last_id: u64,
    waiting: BTreeMap<(Arc<str>, u32), Entry>,
    /// Oldest first; those from `sent` on are not sent on the present stream.
    unanswered: VecDeque<Sent>,
    sent: usize,
    /// The server said "not now".
    paused: bool,
}

impl Commits {
    /// Takes in a commit.
    pub(super) fn push(&mut self, place: &Place) -> CommitTicket {
        let (ticket, answer) = oneshot::channel();
        let lane = (Arc::clone(&place.topic), place.partition);
        let entry = self.waiting.entry(lane).or_insert_with(|| Entry { place: place.clone(), tickets: Vec::new() });
        entry.place.next_offset = entry.place.next_offset.max(place.next_offset);
        entry.tickets.push(ticket);
        CommitTicket { answer }
    }

    /// A ticket of a commit that is refused here.
    pub(super) fn refused(error: Error) -> CommitTicket {
        let (ticket, answer) = oneshot::channel();
        // The other end is in hand.
        let _ = ticket.send(Err(error));
        CommitTicket { answer }
    }

    /// The next commit to send, which counts as sent from now on.
    pub(super) fn send(&mut self) -> Option<v1::Commit> {
        if self.paused {
            return None;
        }
        if self.sent == self.unanswered.len() {
            if self.waiting.is_empty() || self.sent >= UNANSWERED_MAX {
                return None;
            }
            let left = self.waiting.len().saturating_sub(PARTITIONS_MAX);
            let mut entries = Vec::new();
            while self.waiting.len() > left {
                entries.extend(self.waiting.pop_first().map(|(_, entry)| entry));
            }
            self.append(entries);
        }
        let next = &self.unanswered[self.sent];
        self.sent += 1;
        Some(v1::Commit { commit_id: next.commit_id, commits: next.entries.iter().map(Entry::to_wire).collect() })
    }

    fn append(&mut self, entries: Vec<Entry>) {
        self.last_id += 1;
        self.unanswered.push_back(Sent { commit_id: self.last_id, entries });
    }

    /// Takes the answer to a commit. None: it was not asked.
    pub(super) fn answered(&mut self, answer: v1::Committed) -> Option<Settled> {
        let index = self.unanswered.range(..self.sent).position(|sent| sent.commit_id == answer.commit_id)?;
        let Sent { entries, .. } = self.unanswered.remove(index)?;
        self.sent -= 1;
        let error = match answer.result {
            Some(committed::Result::Ok(_)) => None,
            Some(committed::Result::Refused(status)) => Some(Error::from_outcome("commit", &status)),
            None => Some(Error::protocol("a commit has an unknown outcome")),
        };
        let mut settled = Settled::default();
        match error {
            // All or nothing: one that is refused takes the others with it, so each is asked alone.
            Some(_) if entries.len() > 1 => entries.into_iter().for_each(|entry| self.append(vec![entry])),
            Some(error) if error.is_retryable() => {
                self.append(entries);
                self.paused = true;
            }
            error => {
                for entry in entries {
                    settled.take(entry, error.clone());
                }
            }
        }
        Some(settled)
    }

    /// Nothing is sent until [`Commits::resume`].
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Sends again.
    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    /// The stream broke: what is not answered is sent again.
    pub(super) fn broke(&mut self) {
        self.sent = 0;
    }

    /// A partition is held no longer: what waits for it is refused here, what was sent the server answers.
    pub(super) fn lost(&mut self, topic: &Arc<str>, partition: u32) -> Option<(Place, Error)> {
        let entry = self.waiting.remove(&(Arc::clone(topic), partition))?;
        let error = not_held(&entry.place);
        entry.tell(&Err(error))
    }

    /// Every commit is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.unanswered.is_empty()
    }

    /// Nothing more is answered: what was sent is unknown.
    pub(super) fn give_up(&mut self, error: &Error) {
        let unknown = error.clone().with_unknown_outcome();
        let sent = self.unanswered.drain(..).flat_map(|sent| sent.entries).map(|entry| (entry, unknown.clone()));
        let waiting = std::mem::take(&mut self.waiting).into_values().map(|entry| (entry, error.clone()));
        for (entry, error) in sent.chain(waiting) {
            // Whoever does not listen learns of it from the end of the stream.
            let _ = entry.tell(&Err(error));
        }
        self.sent = 0;
    }
}

impl Settled {
    fn take(&mut self, entry: Entry, error: Option<Error>) {
        let is_there = error.as_ref().is_some_and(|error| {
            let current = error.number(reason::key::CURRENT);
            error.reason() == Some(reason::CURSOR_BACKWARDS)
                && current.is_some_and(|current| current >= entry.place.next_offset)
        });
        let result = match error {
            Some(error) if !is_there => Err(error),
            _ => Ok(()),
        };
        let places = if result.is_ok() { &mut self.moved } else { &mut self.refused };
        places.push(entry.place.clone());
        self.untold.extend(entry.tell(&result));
    }
}
