"""A member of a consumer group, as a process of its own, that knows nothing of Tillroll but its .proto files.

Reads `--input` through `Consume` and, for a few records of one partition at a time, makes one append: an output record
for each on `--output`, the cursor that moves behind them, and a producer's stamp. Several appends are in flight on one
AppendStream. All state is in one thread, which takes one event after the other from an inbox; what it must keep:

- a partition counts as held only as the open stream says it; a broken stream forgets all but how far it had come;
- what was refused by a fence is dropped with its partition, what was refused behind it is sent again;
- a partition that is asked back is finished first and released then; one that is lost is dropped at once;
- TAKEN_OVER is the end: this process never joins again.

What happens is said on standard output, one JSON object a line. Standard input takes `halt` (with records in hand and
an append in flight, say so and stand still), then `go` (go on) or `break` (go on with both streams broken, and whatever
they brought meanwhile unseen); its end means: leave.

    member.py --server 127.0.0.1:7117 --stubs FOLDER --group workers --member py-0 --input orders --output handled
"""

import argparse
import collections
import dataclasses
import json
import queue
import sys
import threading
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import client

# How the process ends.
LEFT, TAKEN_OVER = 0, 3
# Appends in flight, and records in one of them.
WINDOW, RECORDS_MAX = 8, 5
# Bytes of records that may be here and not yet appended; and of one response.
CREDIT_BYTES, RESPONSE_BYTES = 16_384, 4_096
# Whoever is told to stand still waits for so many records first.
HALTS_WITH = 10
# A server says something every few seconds; whoever is silent for so long is gone.
SILENCE_S = 30
STAND_STILL_S = 60
PRODUCER_IDLE_MS = 3_600_000


class Stream:
    """One call in both directions. What comes, and then its end, goes to the inbox."""

    def __init__(self, method, inbox):
        self.outbox = queue.SimpleQueue()
        self.call = method(iter(self.outbox.get, None), wait_for_ready=True)
        self.inbox, self.is_broken = inbox, False
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        try:
            for response in self.call:
                self.inbox.put((self, response))
            self.inbox.put((self, None))
        except grpc.RpcError as error:
            self.inbox.put((self, error))

    def say(self, message):
        self.outbox.put(message)

    def cut(self):
        """Breaks it off, whatever is on its way in either direction."""
        self.is_broken = True
        self.call.cancel()
        self.outbox.put(None)


@dataclasses.dataclass
class Held:
    """A partition under one epoch. `next_offset` is the first that no append has been made for."""

    partition: int
    epoch: int
    next_offset: int
    records: collections.deque = dataclasses.field(default_factory=collections.deque)
    is_draining: bool = False

    @property
    def place(self):
        return (self.partition, self.epoch)


@dataclasses.dataclass
class Work:
    """One append, as it is sent and as it is sent again."""

    place: tuple
    first: int
    next_offset: int
    request: object
    sequence: int = 0
    append_id: int = 0


class Refused(Exception):
    """The server said no to something that should have gone well."""


def reason_of(status):
    """The reason of a refusal: of a google.rpc.Status, or of an error of a call. Empty when the transport failed."""
    if isinstance(status, grpc.RpcError):
        status = rpc_status.from_call(status)
    for detail in status.details if status is not None else ():
        facts = error_details_pb2.ErrorInfo()
        if detail.Unpack(facts):
            return facts.reason
    return ""


class Member:
    def __init__(self, contract, channel, asked):
        self.messages, self.asked = contract.messages, asked
        self.log = contract.stubs["LogServiceStub"](channel)
        self.groups = contract.stubs["GroupServiceStub"](channel)
        self.inbox = queue.Queue(maxsize=256)
        self.going = threading.Event()
        self.held, self.before = {}, {}
        # Places that are not held any more.
        self.gone = set()
        # Unanswered, in their order; and refused because of one before them.
        self.flying, self.again = collections.deque(), []
        self.refused_at = None
        self.window, self.append_id = WINDOW, 0
        self.is_joined = self.is_leaving = self.is_over = self.has_joined = False
        self.halts = self.breaks = False

    def make(self, name, /, **fields):
        return self.messages[name](**fields)

    def say(self, what, **facts):
        print(json.dumps({"said": what, **facts}), flush=True)

    # From the first word to the last.

    def run(self):
        """Works until it has left or another process has taken over; which of both is the answer."""
        asked = self.make("InitProducerRequest", idle_expiry_ms=PRODUCER_IDLE_MS)
        self.producer = self.log.InitProducer(asked, timeout=client.DEADLINE_S, wait_for_ready=True)
        self.sequence = self.producer.next_sequence
        threading.Thread(target=self.obey, daemon=True).start()
        self.open_appends()
        self.join()
        while True:
            source, event = self.inbox.get(timeout=SILENCE_S)
            has_ended = event is None or isinstance(event, grpc.RpcError)
            if source == "asked":
                self.take_order(event)
            elif source is self.consuming and has_ended:
                if self.is_leaving and event is None:
                    return LEFT
                self.consuming_ended(event)
            elif source is self.appending and has_ended:
                self.appending_ended(event)
            elif source is self.consuming and not source.is_broken:
                self.take(event)
            elif source is self.appending and not source.is_broken:
                self.take_outcome(event)
            # Anything else is from a stream that was given up.
            if self.is_over and not self.flying:
                return TAKEN_OVER
            self.work()

    def obey(self):
        """Takes orders. Those to one that stands still reach it at once, ahead of what is in its inbox."""
        for order in map(str.strip, sys.stdin):
            if order in ("go", "break"):
                self.breaks = order == "break"
                self.going.set()
            else:
                self.inbox.put(("asked", order))
        self.going.set()
        self.inbox.put(("asked", "leave"))

    def take_order(self, order):
        assert order in ("halt", "leave"), f"asked for {order!r}"
        self.halts = self.halts or order == "halt"
        self.is_leaving = self.is_leaving or order == "leave"

    # The membership.

    def join(self):
        """Joins, for the first time or again: the same member and the same instance."""
        self.before.update(self.held)
        self.held, self.is_joined = {}, False
        self.consuming = Stream(self.groups.Consume, self.inbox)
        comes_back, self.has_joined = self.has_joined, True
        join = self.make(
            "Join",
            group=self.asked.group,
            member_id=self.asked.member,
            instance_id=self.asked.instance,
            max_response_bytes=RESPONSE_BYTES,
            initial_credit_bytes=CREDIT_BYTES,
            comes_back=comes_back,
        )
        self.consuming.say(self.make("ConsumeRequest", join=join))

    def consuming_ended(self, error):
        reason = reason_of(error) if error else ""
        if reason == "TAKEN_OVER":
            # What is in flight is answered; nothing new is begun.
            self.is_over = True
            self.say("taken over")
        elif reason in ("", "MEMBERSHIP_ENDED", "SHUTTING_DOWN"):
            self.say("broken", reason=reason)
            self.join()
        else:
            raise Refused(f"{reason}: {error.details()}")

    def take(self, response):
        """What the server says to its member."""
        kind = response.WhichOneof("event")
        if kind == "joined":
            self.is_joined = True
            self.say("joined", resumed=response.joined.resumed)
        elif kind == "assigned":
            for given in response.assigned.assignments:
                self.take_up(given)
            self.say("assigned", held=self.shown())
        elif kind == "batch":
            self.take_in(response.batch)
        elif kind == "revoking":
            for given in response.revoking.assignments:
                held = self.held.get(given.partition)
                if held and held.epoch == given.assignment_epoch:
                    held.is_draining = True
            self.say("revoking", partitions=[given.partition for given in response.revoking.assignments])
        elif kind == "lost":
            for given in response.lost.assignments:
                self.drop((given.partition, given.assignment_epoch))
            self.say("lost", reason=response.lost.reason, held=self.shown())
        else:
            assert kind in ("heartbeat", "caught_up"), f"{kind}: {response}"

    def shown(self):
        return [list(held.place) for held in self.held.values()]

    def take_up(self, given):
        """A partition came. After a broken stream it may be one that was held: then it goes on where it was."""
        held = Held(given.partition, given.assignment_epoch, given.next_offset)
        known = self.before.pop(given.partition, None)
        if known and known.epoch == held.epoch:
            held.next_offset = max(held.next_offset, known.next_offset)
        self.held[given.partition] = held

    def take_in(self, batch):
        """Records, each with what it gives back of the credit: the last one, for all."""
        held = self.held.get(batch.partition)
        is_wanted = held and held.epoch == batch.assignment_epoch
        records = [item for item in batch.records if item.offset >= held.next_offset] if is_wanted else []
        if not records:
            return self.give_credit(batch.ByteSize())
        costs = [0] * (len(records) - 1) + [batch.ByteSize()]
        held.records.extend(zip(records, costs))

    def give_credit(self, count):
        if count:
            self.consuming.say(self.make("ConsumeRequest", credit=self.make("Credit", bytes=count)))

    def drop(self, place):
        """A partition is not held any more: whatever is here of it is somebody else's."""
        self.gone.add(place)
        held = self.held.get(place[0])
        if held and held.epoch == place[1]:
            del self.held[place[0]]
            self.give_credit(sum(cost for _, cost in held.records))

    def is_open(self, place):
        """Something of it is unanswered."""
        return any(work.place == place for work in (*self.flying, *self.again))

    # The appends.

    def open_appends(self):
        """Opens the stream, and sends again what the one before left unanswered, byte for byte."""
        self.appending = Stream(self.log.AppendStream, self.inbox)
        for work in self.flying:
            self.transmit(work)

    def appending_ended(self, error):
        reason = reason_of(error) if error else ""
        if reason not in ("", "SHUTTING_DOWN"):
            raise Refused(f"{reason}: {error.details()}")
        self.open_appends()

    def transmit(self, work):
        # It rises with every message, also when the same append goes out once more.
        self.append_id += 1
        work.append_id = self.append_id
        self.appending.say(self.make("AppendStreamRequest", append_id=work.append_id, append=work.request))

    def send(self, work):
        """Sends an append under the next sequence."""
        work.sequence = self.sequence
        self.sequence += 1
        self.flying.append(work)
        stamp = self.make(
            "ProducerStamp",
            producer_id=self.producer.producer_id,
            epoch=self.producer.epoch,
            sequence=work.sequence,
            answered_below=self.flying[0].sequence,
        )
        work.request.producer.CopyFrom(stamp)
        self.transmit(work)

    def take_outcome(self, response):
        kind = response.WhichOneof("event")
        if kind == "opened":
            self.window = min(WINDOW, response.opened.max_in_flight_appends)
        if kind != "outcome":
            return
        work = self.flying.popleft()
        assert response.outcome.append_id == work.append_id, f"{response} for {work.append_id}"
        facts = {"place": list(work.place), "first": work.first, "next": work.next_offset}
        if response.outcome.WhichOneof("result") == "ok":
            self.say("done", duplicate=response.outcome.ok.duplicate, **facts)
            return
        reason = reason_of(response.outcome.refused)
        if self.refused_at is None:
            self.refused_at = work.sequence
        if reason == "ASSIGNMENT_FENCED":
            self.drop(work.place)
            self.say("fenced", **facts)
        elif reason == "SEQUENCE_GAP":
            self.again.append(work)
            self.say("behind a refusal", **facts)
        else:
            raise Refused(f"{reason}: {response.outcome.refused.message}")

    def go_on_after_refusal(self):
        """The refused sequence is the next one again; what came behind it and is not gone is sent anew."""
        self.sequence, self.refused_at = self.refused_at, None
        again, self.again = self.again, []
        for work in again:
            if work.place not in self.gone:
                self.send(work)

    # The work.

    def work(self):
        if self.refused_at is not None:
            # Whatever is sent now would be refused for the gap before it.
            if self.flying or self.is_over:
                return
            self.go_on_after_refusal()
        if self.is_over:
            return
        if self.halts and not self.stand_still():
            return
        while not self.is_leaving and len(self.flying) < self.window and (held := self.next_held()):
            self.send(self.handle(held, RECORDS_MAX))
        for held in [held for held in self.held.values() if held.is_draining]:
            if not held.records and not self.is_open(held.place):
                self.release(held)
        if self.is_leaving and self.is_joined and not self.flying:
            self.consuming.say(self.make("ConsumeRequest", leave=self.make("Leave")))
            self.is_joined = False

    def next_held(self):
        """The partition with records whose turn it is: what was served goes to the end."""
        for held in self.held.values():
            if held.records:
                self.held[held.partition] = self.held.pop(held.partition)
                return held
        return None

    def handle(self, held, count):
        """Makes the append for the next records of a partition."""
        outputs, first, cost = [], held.next_offset, 0
        while held.records and len(outputs) < count:
            item, given_back = held.records.popleft()
            assert item.offset == held.next_offset, f"offset {item.offset}, {held.next_offset} due"
            outputs.append(self.output(held, item))
            held.next_offset = item.offset + 1
            cost += given_back
        self.give_credit(cost)
        moved = self.make(
            "CursorCommit",
            group=self.asked.group,
            topic=self.asked.input,
            partition=held.partition,
            assignment_epoch=held.epoch,
            expected_offset=first,
            next_offset=held.next_offset,
        )
        batch = self.make("AppendBatch", topic=self.asked.output, records=self.make("RecordSet", records=outputs))
        # A server that did not know of cursor commits would take the records and leave the cursor.
        request = self.make("AppendRequest", batches=[batch], commits=[moved], needs=["append.commits"])
        return Work(held.place, first, held.next_offset, request)

    def output(self, held, item):
        step = f"{self.asked.group}/{self.asked.input}/{held.partition}/{item.offset}/0/1"
        by = f"{self.asked.member}/{self.asked.instance}/{held.epoch}"
        headers = {"tillroll-step": step, "handled-by": by}
        return self.make(
            "Record",
            key=item.record.key,
            value=item.record.value.upper(),
            headers=[self.make("Header", name=name, value=value.encode()) for name, value in headers.items()],
            id=f"handled-{item.record.id}",
            type="OrderHandled.v1",
            source=self.asked.member,
            correlation_id=item.record.correlation_id,
            causation_id=item.record.id,
        )

    def release(self, held):
        """Everything of it is answered: its cursor is where the next member begins."""
        given = self.make(
            "Assignment",
            topic=self.asked.input,
            partition=held.partition,
            assignment_epoch=held.epoch,
            next_offset=held.next_offset,
        )
        self.consuming.say(self.make("ConsumeRequest", release=self.make("Release", assignments=[given])))
        held.is_draining = False

    def stand_still(self):
        """With records in hand and an append in flight, says so and does nothing more until it may go on."""
        if self.flying or sum(len(held.records) for held in self.held.values()) < HALTS_WITH:
            return False
        self.send(self.handle(self.next_held(), 1))
        in_hand = [[held.partition, item.offset] for held in self.held.values() for item, _ in held.records]
        in_flight = [[work.place[0], at] for work in self.flying for at in range(work.first, work.next_offset)]
        self.say("halted", in_hand=in_hand, in_flight=in_flight, held=self.shown())
        assert self.going.wait(STAND_STILL_S), "nobody said go"
        self.halts = False
        self.going.clear()
        if self.breaks:
            self.consuming.cut()
            self.appending.cut()
        return not self.breaks


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="address of the broker")
    parser.add_argument("--stubs", required=True, help="folder of what was generated from the contract")
    parser.add_argument("--group", required=True)
    parser.add_argument("--member", required=True, help="its name, the same over restarts")
    parser.add_argument("--instance", default=uuid.uuid4().hex, help="its process; new for each start")
    parser.add_argument("--input", required=True, help="the topic that it reads")
    parser.add_argument("--output", required=True, help="the topic that it writes")
    asked = parser.parse_args()
    contract = client.load_stubs(asked.stubs)
    with grpc.insecure_channel(asked.server) as channel:
        return Member(contract, channel, asked).run()


if __name__ == "__main__":
    sys.exit(main())
