//! One connection: what it holds of each budget, and what it may do next.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    ANSWER_BYTES_SMALL, Connections, LARGE_WAITS_MAX, LARGE_WAITS_OWN, PROGRESS_BYTES, STREAMS_MAX, STREAMS_OWN,
    UNREAD_BYTES_MAX, UNREAD_BYTES_OWN, UNREAD_BYTES_SMALL, WINDOWS,
    holds::{Ages, LargeWaits, OpenStream, Outcomes, Turn, Undecoded, Unread, Waits},
};

/// One connection.
pub struct Connection {
    pub(super) id: u64,
    pub(super) tier: usize,
    /// Its handshake is over.
    pub(super) is_greeted: AtomicBool,
    pub(super) undecoded: AtomicU64,
    pub(super) unread: AtomicU64,
    pub(super) outcomes: AtomicU64,
    /// Bytes of the last page that had no room; 0 when one had since.
    pub(super) refused: AtomicU64,
    /// Since when it has each of these.
    pub(super) undecoded_since: Ages,
    pub(super) unread_since: Ages,
    pub(super) outcomes_since: Ages,
    /// When it last read something worth the name, in milliseconds since the start.
    pub(super) read_at: AtomicU64,
    /// Bytes that were written to its socket, and how many of them were seen as progress.
    pub(super) written: AtomicU64,
    pub(super) written_seen: AtomicU64,
    /// Its calls that are not over, and when the last one was.
    pub(super) streams: AtomicUsize,
    pub(super) unused_since: AtomicU64,
    /// Turns for long answers: it takes no more of all turns at once.
    pub(super) turns: Arc<Semaphore>,
    pub(super) large_waits: AtomicUsize,
    pub(super) cut: CancellationToken,
    pub(super) all: Arc<Connections>,
}

/// Why no more calls may begin on a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There are as many as may be.
    Calls,
    /// As much as may be is not read, in all connections.
    Responses,
    /// The same in this one.
    OwnResponses,
    /// As many large requests as may be wait for a turn.
    LargeWaits,
}

/// Why there is no room for a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The connection itself holds as much as one may.
    Own,
    /// All connections together do.
    All,
}

/// Adds to what a connection holds, and to what all hold beyond their shares.
pub(super) fn add(own: &AtomicU64, all: &AtomicU64, share: u64, bytes: u64) -> u64 {
    let before = own.fetch_add(bytes, Ordering::SeqCst);
    let beyond = (before + bytes).saturating_sub(share) - before.saturating_sub(share);
    if beyond > 0 {
        all.fetch_add(beyond, Ordering::SeqCst);
    }
    before
}

/// Takes it back.
pub(super) fn take_back(own: &AtomicU64, all: &AtomicU64, share: u64, bytes: u64) {
    let before = own.fetch_sub(bytes, Ordering::SeqCst);
    let beyond = before.saturating_sub(share) - (before - bytes).saturating_sub(share);
    if beyond > 0 {
        all.fetch_sub(beyond, Ordering::SeqCst);
    }
}

/// The answer to a call does not wait for room, so none begins while there is none. Streams do wait, within what
/// one connection may hold; calls have as much again.
fn check_answer(own: u64, all: u64) -> Result<(), Full> {
    if own > UNREAD_BYTES_SMALL && all > UNREAD_BYTES_MAX {
        return Err(Full::Responses);
    }
    if own > 2 * UNREAD_BYTES_OWN { Err(Full::OwnResponses) } else { Ok(()) }
}

impl Connection {
    /// Its handshake is over.
    pub fn greet(&self) {
        self.is_greeted.store(true, Ordering::Relaxed);
    }

    /// Whether its handshake is over.
    pub fn is_greeted(&self) -> bool {
        self.is_greeted.load(Ordering::Relaxed)
    }

    /// Its window, and that of each of its streams.
    pub fn windows(&self) -> (u32, u32) {
        let (_, connection, stream) = WINDOWS[self.tier];
        (connection, stream)
    }

    /// It ends when this is cancelled.
    pub fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// It is closed: its slot is free.
    pub fn close(&self) {
        self.all.state.lock().remove(self);
    }

    /// A call begins; it is over when the answer is dropped.
    pub fn stream(self: &Arc<Self>) -> OpenStream {
        self.all.streams.fetch_add(1, Ordering::Relaxed);
        self.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }

    /// Whether the call that began last may go on.
    ///
    /// # Errors
    ///
    /// Of what there is too much already.
    pub fn check_call(&self) -> Result<(), Full> {
        let [own, all, unread, unread_all] = [
            self.streams.load(Ordering::Relaxed) as u64,
            self.all.streams.load(Ordering::Relaxed) as u64,
            self.unread.load(Ordering::Relaxed),
            self.all.unread.load(Ordering::Relaxed),
        ];
        if own > STREAMS_OWN as u64 && all > STREAMS_MAX as u64 {
            return Err(Full::Calls);
        }
        check_answer(unread, unread_all)
    }

    /// Counts an answer to a call, which is there, until it is written. A small one lies in what each call takes
    /// anyway.
    ///
    /// # Errors
    ///
    /// Of what there is too much already.
    pub fn answer(self: &Arc<Self>, bytes: usize) -> Result<Unread, Full> {
        let (own, all) = (self.unread.load(Ordering::SeqCst), self.all.unread.load(Ordering::SeqCst));
        if bytes > ANSWER_BYTES_SMALL {
            let may = check_answer(own + bytes as u64, all + bytes as u64);
            self.refused.store(if may.is_err() { bytes as u64 } else { 0 }, Ordering::Relaxed);
            may?;
        }
        Ok(self.unread(bytes))
    }

    /// Whether a page may be put together: one as long as the last, when that had no room, would have none.
    ///
    /// # Errors
    ///
    /// Of what there is too much already.
    pub fn check_page(&self) -> Result<(), Full> {
        let refused = self.refused.load(Ordering::Relaxed);
        let (own, all) = (self.unread.load(Ordering::Relaxed), self.all.unread.load(Ordering::Relaxed));
        check_answer(own + refused, all + refused)
    }

    /// A turn for a long answer, and for what has to be looked up for one. Each connection waits with a few calls for
    /// all turns, so that one with many calls is not before the others with each of them.
    pub async fn turn(&self) -> Turn {
        let own = self.turns.clone().acquire_owned().await.ok();
        let all = self.all.turns.clone().acquire_owned().await.ok();
        Turn { _own: own, _all: all }
    }

    /// A place among the calls whose requests are large and wait for a turn.
    ///
    /// # Errors
    ///
    /// As many wait already as may.
    pub fn large_waits(self: &Arc<Self>) -> Result<LargeWaits, Full> {
        let waits = LargeWaits::new(self.clone());
        let is_over = waits.own > LARGE_WAITS_OWN || (waits.own > 1 && waits.all > LARGE_WAITS_MAX);
        if is_over { Err(Full::LargeWaits) } else { Ok(waits) }
    }

    /// So many bytes were written to its socket.
    pub fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn look_at_progress(&self, now_ms: u64) {
        let written = self.written.load(Ordering::Relaxed);
        if written - self.written_seen.load(Ordering::Relaxed) >= PROGRESS_BYTES {
            self.written_seen.store(written, Ordering::Relaxed);
            self.read_at.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Room for bytes of a request that is not whole yet; none when there is none.
    pub fn undecoded(self: &Arc<Self>) -> Undecoded {
        Undecoded { bytes: 0, number: 0, connection: self.clone() }
    }

    /// Room for outcomes of a stream of appends; none yet.
    pub fn outcomes(self: &Arc<Self>) -> Outcomes {
        Outcomes { bytes: 0, since: None, connection: self.clone() }
    }

    /// Counts bytes that were handed to the transport until they are written.
    pub fn unread(self: &Arc<Self>, bytes: usize) -> Unread {
        let (bytes, now_ms) = (bytes as u64, self.all.now_ms());
        self.add_unread(bytes, now_ms);
        Unread { bytes, number: self.unread_since.begin(now_ms), connection: self.clone() }
    }

    pub(super) fn add_unread(&self, bytes: u64, now_ms: u64) {
        let before = add(&self.unread, &self.all.unread, UNREAD_BYTES_SMALL, bytes);
        if before <= UNREAD_BYTES_SMALL && before + bytes > UNREAD_BYTES_SMALL {
            // Its time to read begins with the first of what others could need.
            self.read_at.store(now_ms, Ordering::Relaxed);
        }
    }

    fn check_room(&self, bytes: usize) -> Result<(), NoRoom> {
        let bytes = bytes as u64;
        let (own, all) = (self.unread.load(Ordering::SeqCst), self.all.unread.load(Ordering::SeqCst));
        if own + bytes <= UNREAD_BYTES_SMALL {
            return Ok(());
        }
        if own > 0 && own + bytes > UNREAD_BYTES_OWN {
            return Err(NoRoom::Own);
        }
        if all > 0 && all + bytes > UNREAD_BYTES_MAX { Err(NoRoom::All) } else { Ok(()) }
    }

    /// Room for a response of about so many bytes, when there is some now. A small one has it as long as the connection
    /// holds little.
    ///
    /// # Errors
    ///
    /// Whether the connection itself holds too much, or all together.
    pub fn try_room(self: &Arc<Self>, bytes: usize) -> Result<Unread, NoRoom> {
        self.check_room(bytes).map(|()| self.unread(bytes))
    }

    /// Counts one more that waits for room that others hold.
    pub fn waits(&self) -> Waits {
        self.all.waiting.fetch_add(1, Ordering::SeqCst);
        Waits(self.all.clone())
    }

    /// Waits for room for a response of about so many bytes: in all connections, and in this one.
    pub async fn room(self: &Arc<Self>, bytes: usize) -> Unread {
        // Who waits for what it holds itself needs nobody else's.
        let mut waits = None;
        loop {
            let room = self.all.room.notified();
            tokio::pin!(room);
            // Before it is asked: what comes free between the two wakes it.
            room.as_mut().enable();
            match self.try_room(bytes) {
                Ok(room) => return room,
                Err(NoRoom::Own) => waits = None,
                Err(NoRoom::All) => waits = waits.or_else(|| Some(self.waits())),
            }
            room.await;
        }
    }
}
