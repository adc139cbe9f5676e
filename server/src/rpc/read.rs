//! `Read`: plan → look → pack → send, partition after partition; then wait for more.
//!
//! One task a call, with no state that outlives it. What is in memory is read at once, everything else on a thread that
//! may block, packed into responses there. What must stay true: order within a partition, each record once, nothing
//! behind the ends of a bounded read, `CaughtUp` once and before the end, a sign of life when nothing else flows, and
//! never an end that looks well when it is not.

use std::{collections::VecDeque, sync::Arc};

use tillroll_engine::{engine::Engine, id::Offset, request::Chunk};
use tillroll_proto::v1::{self, read_response::Event};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    blocking, deadline, in_turn,
    responses::{Responses, Room, Said},
};
use crate::{
    connections::{Connection, Unread},
    refusal::{Facts, of_fault, stopping},
};

mod plan;
mod cut;
mod pack;
mod wait;

pub(super) use self::{
    pack::Packed,
    plan::{Cursor, Limit, Order, is_encoded, limit},
    wait::Waiting,
};
use self::{pack::Packer, plan::Plan};

/// Responses between the reading task and the connection.
const RESPONSES_MAX: usize = 1;
/// More than this is not packed record by record on the thread that serves all connections.
const PACKED_AT_ONCE: usize = 64 << 10;
/// The same of batches that are sent as they are, where small ones are copied together.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Checks a request and starts to answer it; what is wrong with it is the answer of the call itself.
pub(super) async fn open(
    engine: Engine,
    request: v1::ReadRequest,
    deadline: Option<Instant>,
    connection: Option<Arc<Connection>>,
    stop: CancellationToken,
) -> Result<Responses<v1::ReadResponse>, Facts> {
    let plan = {
        let engine = engine.clone();
        // A start by time is looked up in segments.
        in_turn(connection.clone(), move || Plan::of(&engine, request)).await?.answer
    };
    let (sender, responses) = Responses::new(RESPONSES_MAX);
    tokio::spawn(async move {
        let mut reading = Reading::new(engine, plan, connection, sender.clone());
        let end = tokio::select! {
            () = sender.closed() => return,
            () = stop.cancelled() => Err(stopping().status()),
            () = deadline::passed(deadline) => Err(deadline::exceeded()),
            ended = reading.run() => match ended {
                Ok(()) => Ok(()),
                Err(End::Refused(facts)) => Err(facts.status()),
                Err(End::Gone) => return,
            },
        };
        // A client that is gone needs no answer.
        let _gone = sender.send(Said::end(end)).await;
    });
    Ok(responses)
}

/// Why a read ends before its time.
enum End {
    Refused(Facts),
    /// The client is gone.
    Gone,
}

impl From<Facts> for End {
    fn from(facts: Facts) -> Self {
        Self::Refused(facts)
    }
}

struct Reading {
    engine: Engine,
    plan: Plan,
    connection: Option<Arc<Connection>>,
    sender: mpsc::Sender<Said<v1::ReadResponse>>,
    /// Partitions that may have records, by their place in the plan, each at its turn.
    ready: VecDeque<usize>,
    waiting: Waiting<usize>,
    /// Partitions that are not where they ended when the call began.
    behind: usize,
    records_left: Option<u64>,
    is_caught_up: bool,
    heartbeat_at: Instant,
}

impl Reading {
    fn new(
        engine: Engine,
        plan: Plan,
        connection: Option<Arc<Connection>>,
        sender: mpsc::Sender<Said<v1::ReadResponse>>,
    ) -> Self {
        let behind = plan.cursors.iter().filter(|cursor| is_behind(cursor)).count();
        let places = 0..plan.cursors.len();
        Self {
            ready: places.filter(|place| plan.is_following || is_behind(&plan.cursors[*place])).collect(),
            waiting: Waiting::default(),
            behind,
            records_left: plan.records_max,
            is_caught_up: false,
            heartbeat_at: Instant::now() + plan.heartbeat,
            engine,
            plan,
            connection,
            sender,
        }
    }

    async fn run(&mut self) -> Result<(), End> {
        loop {
            if !self.is_caught_up && self.behind == 0 {
                self.is_caught_up = true;
                let ends = self.plan.ends(&self.engine, true);
                self.send(Event::CaughtUp(v1::CaughtUp { ends }), None).await?;
            }
            if self.records_left == Some(0) || (self.is_caught_up && !self.plan.is_following) {
                return Ok(());
            }
            match self.ready.pop_front() {
                Some(place) => self.turn(place).await?,
                None => self.wait().await?,
            }
        }
    }

    /// Sends what there is of a partition, a look's worth; has it wait when there is nothing.
    async fn turn(&mut self, place: usize) -> Result<(), End> {
        let cursor = self.plan.cursors[place];
        let Some((packed, room)) = self.look(cursor).await? else {
            self.waiting.add(&self.engine, place, cursor.lane, cursor.next);
            return Ok(());
        };
        self.waiting.had_records(place);
        self.records_left = self.records_left.map(|left| left.saturating_sub(packed.records));
        for batch in packed.batches {
            self.plan.cursors[place].next = Offset(batch.next_offset);
            self.send(Event::Batch(batch), room.clone()).await?;
        }
        if let Some(facts) = packed.refusal {
            return Err(facts.into());
        }
        let is_now_behind = is_behind(&self.plan.cursors[place]);
        self.behind -= usize::from(is_behind(&cursor) && !is_now_behind);
        if self.plan.is_following || is_now_behind {
            self.ready.push_back(place);
        }
        Ok(())
    }

    /// Reads and packs, when there is room for it: at once what is in memory, on a thread that may block what is not.
    async fn look(&mut self, cursor: Cursor) -> Result<Option<(Packed, Room)>, Facts> {
        // A bounded read ends where the partition ended when it began, whatever was merged or appended since.
        let until = if self.plan.is_following { Offset(u64::MAX) } else { cursor.end };
        let (engine, order, left) = (self.engine.clone(), self.plan.order.clone(), self.records_left);
        let mut room = None;
        if let Some(connection) = &self.connection {
            let bytes = bytes_at(&engine, &order, cursor);
            room = Some(connection.room(bytes).await);
        }
        look(engine, order, cursor, (until, left), room).await
    }

    /// Waits for any partition to have more, and sends a sign of life meanwhile.
    async fn wait(&mut self) -> Result<(), End> {
        tokio::select! {
            place = self.waiting.next() => {
                self.ready.push_back(place);
                Ok(())
            }
            () = tokio::time::sleep_until(self.heartbeat_at) => {
                let ends = self.plan.ends(&self.engine, false);
                self.send(Event::Heartbeat(v1::Heartbeat { ends }), None).await
            }
        }
    }

    async fn send(&mut self, event: Event, room: Room) -> Result<(), End> {
        self.heartbeat_at = Instant::now() + self.plan.heartbeat;
        let response = v1::ReadResponse { event: Some(event) };
        self.sender.send(Said::response(response, room)).await.map_err(|_| End::Gone)
    }
}

/// One look into the log, not behind `until` and for so many records; none when nothing is there. What is in memory and
/// quickly packed is so at once, everything else on a thread that may block, which has the room for as long as it runs,
/// also when nobody waits any more.
pub(super) async fn look(
    engine: Engine,
    order: Arc<Order>,
    cursor: Cursor,
    (until, left): (Offset, Option<u64>),
    room: Option<Unread>,
) -> Result<Option<(Packed, Room)>, Facts> {
    let pack = move |order: &Order, chunks: Vec<Chunk>, mut room: Option<Unread>| {
        if chunks.is_empty() {
            return None;
        }
        let packed = Packer::new(order, cursor, until, left).pack(chunks);
        if let Some(room) = &mut room {
            room.resize(packed.bytes());
        }
        Some((packed, room.map(Arc::new)))
    };
    if !engine.is_in_memory(cursor.lane, cursor.next) {
        return blocking(move || Ok(pack(&order, read(&engine, &order, cursor)?, room))).await?;
    }
    let chunks = read(&engine, &order, cursor)?;
    let bytes: usize = chunks.iter().map(|chunk| chunk.batch.decoded_bytes as usize).sum();
    let is_copied = bytes <= COPIED_AT_ONCE && pack::stand_as_they_are(&order, until, left, &chunks);
    if is_copied || bytes <= PACKED_AT_ONCE {
        return Ok(pack(&order, chunks, room));
    }
    blocking(move || pack(&order, chunks, room)).await
}

/// How much a look will come to: what is in memory is looked at, of what is not a whole response is expected.
pub(super) fn bytes_at(engine: &Engine, order: &Order, cursor: Cursor) -> usize {
    let limit = order.limit.bytes;
    if !engine.is_in_memory(cursor.lane, cursor.next) {
        return limit;
    }
    engine.bytes_in_memory(cursor.lane, cursor.next, limit)
}

fn read(engine: &Engine, order: &Order, cursor: Cursor) -> Result<Vec<Chunk>, Facts> {
    let answer = engine.read(cursor.lane, cursor.next, order.limit.bytes);
    let answer = answer.map_err(|fault| of_fault(&fault).at(&order.topic, Some(cursor.lane.partition)))?;
    Ok(answer.chunks)
}

fn is_behind(cursor: &Cursor) -> bool {
    cursor.next < cursor.end
}
