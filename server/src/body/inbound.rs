//! What comes in: pieces are held until a message is whole, and only then handed on. So an announced length costs
//! nothing: the layer above makes room for a message when all of it is there.
//!
//! A message is a byte (compressed or not), its length in four, and its bytes. What is held of one that is not whole
//! yet has room in a budget over all connections; what makes no progress for a while ends. A request of one message is
//! whole when its client has said that it ends: the layer above waits for that, and would keep the message meanwhile.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use hyper::body::Incoming;
use tillroll_proto::reason::key;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use crate::{
    channel,
    connections::{Connection, Undecoded},
    refusal::{Facts, table},
};

/// Bytes in front of a message.
const PREFIX_BYTES: usize = 5;
/// Smaller pieces are copied together: each would keep the buffer that it was read into.
const COPIED_BELOW: usize = 4 << 10;
/// A message that gets no byte more for this long is given up.
const IDLE: Duration = Duration::from_secs(20);
/// A message that is not whole after this long is given up.
const WHOLE_WITHIN: Duration = Duration::from_mins(2);

/// The body of a request.
pub(crate) struct Inbound<B = Incoming> {
    inner: B,
    parts: Parts,
    room: Undecoded,
    /// The client may send messages whenever it likes. Of all others one is expected, and the end behind it.
    is_stream: bool,
    has_ended: bool,
    timer: Option<Pin<Box<Sleep>>>,
    /// Ends the body, behind what is whole.
    fault: Option<Status>,
    /// When the message that is on its way began.
    since: Instant,
}

/// Pieces in their order: first those of whole messages, then those of one that is not.
#[derive(Default)]
struct Parts {
    whole: VecDeque<Bytes>,
    held: VecDeque<Bytes>,
    /// Small pieces, copied together: the end of what is held.
    small: BytesMut,
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    /// Bytes of the message that are missing behind its prefix.
    missing: usize,
}

impl<B> Inbound<B> {
    /// Around this one. `is_stream`: the client may send messages whenever it likes.
    pub(crate) fn new(inner: B, connection: &Arc<Connection>, is_stream: bool) -> Self {
        Self {
            inner,
            parts: Parts::default(),
            room: connection.undecoded(),
            is_stream,
            has_ended: false,
            timer: None,
            fault: None,
            since: Instant::now(),
        }
    }

    /// Whether what is whole may be handed on.
    fn is_handed_on(&self) -> bool {
        self.is_stream || self.has_ended
    }

    /// No more comes.
    fn end(&mut self) {
        self.has_ended = true;
        self.room.give_back();
    }

    /// Takes in a piece; what it makes whole can be handed on.
    fn take(&mut self, piece: Bytes) {
        if !self.parts.is_on_its_way() {
            self.since = Instant::now();
        }
        let bytes = piece.len();
        let (is_whole, beyond) = self.parts.push(piece);
        self.fault = beyond.map(|length| too_large(length).status());
        let is_handed_on = is_whole && self.is_handed_on();
        if is_handed_on {
            self.room.give_back();
        }
        // What begins the next message has its room anew.
        let taken = if is_handed_on { self.parts.held_bytes() } else { bytes };
        let is_held = !self.is_handed_on() || self.parts.is_on_its_way();
        if self.fault.is_none() && is_held && !self.room.take(taken) {
            self.fault = Some(no_room().status());
        }
        self.timer = None;
    }

    /// Whether the message on its way has had its time.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        if !self.parts.is_on_its_way() && self.is_handed_on() {
            return false;
        }
        let since = self.since;
        let until = || Box::pin(tokio::time::sleep_until((Instant::now() + IDLE).min(since + WHOLE_WITHIN)));
        self.timer.get_or_insert_with(until).as_mut().poll(context).is_ready()
    }
}

impl Parts {
    fn is_on_its_way(&self) -> bool {
        self.prefix_len > 0
    }

    fn held_bytes(&self) -> usize {
        self.held.iter().map(Bytes::len).sum::<usize>() + self.small.len()
    }

    /// Takes a piece. The flag: a message is whole by now. The length: of a message that is longer than any may be; the
    /// rest of the piece is not looked at.
    fn push(&mut self, mut piece: Bytes) -> (bool, Option<usize>) {
        let (mut is_whole, mut beyond) = (false, None);
        // Of this piece: bytes that end a message.
        let mut end = 0;
        let mut at = 0;
        while at < piece.len() {
            if self.prefix_len < PREFIX_BYTES {
                self.prefix[self.prefix_len] = piece[at];
                (self.prefix_len, at) = (self.prefix_len + 1, at + 1);
                if self.prefix_len < PREFIX_BYTES {
                    continue;
                }
                let [_, a, b, c, d] = self.prefix;
                self.missing = (usize::from(a) << 24) | (usize::from(b) << 16) | (usize::from(c) << 8) | usize::from(d);
                if self.missing > channel::REQUEST_BYTES_MAX {
                    beyond = Some(self.missing);
                    break;
                }
            }
            let taken = self.missing.min(piece.len() - at);
            (self.missing, at) = (self.missing - taken, at + taken);
            if self.missing == 0 {
                (self.prefix_len, end, is_whole) = (0, at, true);
            }
        }
        if is_whole {
            self.whole.append(&mut self.held);
            if !self.small.is_empty() {
                self.whole.push_back(self.small.split().freeze());
            }
            self.whole.push_back(piece.split_to(end));
        }
        if beyond.is_none() {
            self.hold(piece);
        }
        (is_whole, beyond)
    }

    fn hold(&mut self, piece: Bytes) {
        if piece.len() < COPIED_BELOW {
            self.small.extend_from_slice(&piece);
            return;
        }
        if !self.small.is_empty() {
            self.held.push_back(self.small.split().freeze());
        }
        self.held.push_back(piece);
    }
}

fn too_large(length: usize) -> Facts {
    let limit = channel::REQUEST_BYTES_MAX;
    let message = format!("the request has {length} bytes, the limit is {limit}; split it");
    let facts = Facts::new(&table::APPEND_TOO_LARGE, message).with(key::FIELD, "request");
    facts.with(key::LIMIT, limit).with(key::ACTUAL, length)
}

fn no_room() -> Facts {
    let limit = crate::connections::UNDECODED_BYTES_MAX;
    let message = format!("requests that are not whole yet take {limit} bytes, no more may be; try again");
    Facts::new(&table::TOO_MANY_IN_FLIGHT, message).with(key::LIMIT, limit)
}

fn late() -> Status {
    let message = format!("the request was not whole in time: {} s without a byte of it", IDLE.as_secs());
    Status::deadline_exceeded(message)
}

impl<B> http_body::Body for Inbound<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if self.is_handed_on()
                && let Some(piece) = self.parts.whole.pop_front()
            {
                if piece.has_remaining() {
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                continue;
            }
            if let Some(fault) = self.fault.take() {
                return Poll::Ready(Some(Err(fault)));
            }
            match Pin::new(&mut self.inner).poll_frame(context) {
                Poll::Pending if self.is_late(context) => return Poll::Ready(Some(Err(late()))),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) if !self.has_ended => self.end(),
                Poll::Ready(None) if self.parts.is_on_its_way() => {
                    return Poll::Ready(Some(Err(Status::internal("the message ends before its length"))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(Status::from_error(Box::new(error))))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) => {
                        if self.inner.is_end_stream() {
                            self.end();
                        }
                        self.take(piece);
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::future::poll_fn;
    use http_body::Body as _;
    use tokio::{sync::mpsc, time::timeout};

    use super::*;
    use crate::connections::Connections;

    /// A body whose pieces come when they are sent.
    struct Fed(mpsc::Receiver<Bytes>);

    impl http_body::Body for Fed {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn fed(is_stream: bool) -> (mpsc::Sender<Bytes>, Inbound<Fed>) {
        let (feed, pieces) = mpsc::channel(8);
        let connection = Connections::new(1).open().expect("there is room");
        (feed, Inbound::new(Fed(pieces), &connection, is_stream))
    }

    async fn next(body: &mut Inbound<Fed>) -> Option<Result<Frame<Bytes>, Status>> {
        poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    }

    async fn ends_late(body: &mut Inbound<Fed>, after: Duration) {
        let early = timeout(after * 9 / 10, next(body)).await;
        assert!(early.is_err(), "it has its time");
        let late = timeout(after / 9, next(body)).await.expect("its time is over");
        let status = late.expect("no end that looks well").expect_err("it is given up");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_of_which_nothing_more_comes_is_given_up() {
        let (_feed, mut unary) = fed(false);
        ends_late(&mut unary, IDLE).await;
        for is_stream in [false, true] {
            let (feed, mut half) = fed(is_stream);
            feed.send(message(100)[..50].to_vec().into()).await.expect("it is taken");
            ends_late(&mut half, IDLE).await;
        }
        let (feed, mut stream) = fed(true);
        assert!(timeout(WHOLE_WITHIN * 100, next(&mut stream)).await.is_err(), "a stream may be quiet");
        feed.send(message(100).into()).await.expect("it is taken");
        next(&mut stream).await.expect("a message").expect("whole");
        assert!(timeout(WHOLE_WITHIN * 100, next(&mut stream)).await.is_err(), "and quiet again");
    }

    /// The layer above would decode it, and wait for the end with all that came of it.
    #[tokio::test(start_paused = true)]
    async fn a_request_of_one_message_is_held_and_counted_until_it_has_ended() {
        let all = Connections::new(1);
        let connection = all.open().expect("there is room");
        let (feed, pieces) = mpsc::channel(8);
        let mut body = Inbound::new(Fed(pieces), &connection, false);
        feed.send(message(1_000).into()).await.expect("it is taken");
        ends_late(&mut body, IDLE).await;
        assert_eq!(all.used().undecoded_bytes, 1_005);
        drop(body);
        let (feed, pieces) = mpsc::channel(8);
        let mut body = Inbound::new(Fed(pieces), &connection, false);
        feed.send(message(1_000).into()).await.expect("it is taken");
        drop(feed);
        let frame = next(&mut body).await.expect("a frame").expect("whole");
        assert_eq!(frame.into_data().expect("data").len(), 1_005);
        assert_eq!(all.used().undecoded_bytes, 0);
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_byte_by_byte_is_given_up() {
        let (feed, mut body) = fed(true);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(IDLE / 2);
            for byte in message(1_000) {
                ticks.tick().await;
                if feed.send(vec![byte].into()).await.is_err() {
                    return;
                }
            }
        });
        ends_late(&mut body, WHOLE_WITHIN).await;
    }

    fn message(bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).expect("small").to_le_bytes();
        let prefix = [0, length[3], length[2], length[1], length[0]];
        prefix.into_iter().chain(std::iter::repeat_n(7, bytes)).collect()
    }

    /// However a stream is cut into pieces, whole messages come out as they went in, and nothing of one that is not.
    #[test]
    fn pieces_are_put_together_however_they_are_cut() {
        let sizes = [0, 1, 5, 5_000, 3, 70_000, 0];
        let all: Vec<u8> = sizes.iter().flat_map(|size| message(*size)).collect();
        for step in [1, 2, 3, 7, 1_000, 4_096, 60_000, all.len()] {
            let (mut parts, mut out) = (Parts::default(), Vec::new());
            let ends: Vec<usize> = sizes
                .iter()
                .scan(0, |end, size| {
                    *end += PREFIX_BYTES + size;
                    Some(*end)
                })
                .collect();
            let mut fed = 0;
            for piece in all.chunks(step) {
                fed += piece.len();
                assert_eq!(parts.push(Bytes::copy_from_slice(piece)).1, None);
                out.extend(parts.whole.drain(..).flatten());
                let whole = ends.iter().copied().filter(|end| *end <= fed).max().unwrap_or(0);
                assert_eq!(out.len(), whole, "step {step} after {fed}");
                assert_eq!(parts.held_bytes(), fed - whole);
                assert_eq!(parts.is_on_its_way(), fed > whole);
            }
            assert_eq!(out, all, "step {step}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_held() {
        let mut parts = Parts::default();
        let length = u32::try_from(channel::REQUEST_BYTES_MAX + 1).expect("small").to_le_bytes();
        let prefix = Bytes::copy_from_slice(&[0, length[3], length[2], length[1], length[0]]);
        assert_eq!(parts.push(prefix), (false, Some(channel::REQUEST_BYTES_MAX + 1)));
        assert_eq!(parts.held_bytes(), 0);
    }
}
