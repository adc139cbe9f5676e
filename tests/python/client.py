"""A client that knows nothing of Tillroll but its .proto files.

Starts a broker of its own on a free port, makes the stubs in the run, and walks through what any client in any language
can do with plain messages: create, append without naming a partition, read, append on a stream with a refusal in its
middle, understand a refusal, repeat an append, be a manual group, read large records within the usual limit of 4 MiB,
leave streams unread.
Each step asserts and prints one line.

    client.py --binary target/debug/tillroll --proto proto
"""

import argparse
import collections
import contextlib
import importlib
import itertools
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading

import grpc
import grpc_tools
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc

DEADLINE_S = 60
START_S = 30
STOP_S = 30
MIB = 1 << 20
DEFAULT_RECEIVE_LIMIT = 4 * MIB
UNREAD_STREAMS = 12
LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")


class Broker:
    """`tillroll serve` as a process. The address is what it says it listens on."""

    def __init__(self, binary, data):
        self.process = subprocess.Popen(
            [binary, "serve", "--data", data, "--listen", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = collections.deque(maxlen=200)
        self.addresses = queue.Queue(maxsize=1)
        self.reader = threading.Thread(target=self.listen, daemon=True)
        self.reader.start()

    def listen(self):
        for line in self.process.stdout:
            self.said.append(line)
            found = LISTENING.search(line)
            if found and not self.addresses.full():
                self.addresses.put(found.group(1))
        if not self.addresses.full():
            self.addresses.put(None)

    def address(self):
        with contextlib.suppress(queue.Empty):
            address = self.addresses.get(timeout=START_S)
            if address:
                return address
        raise AssertionError(f"the broker did not say where it listens; it said:\n{''.join(self.said)}")

    def stop(self):
        """Asks it to go, and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_S)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=STOP_S)


def make_stubs(proto, out):
    """Generates Python from the contract and imports it."""
    files = sorted(str(path.relative_to(proto)) for path in (proto / "tillroll").rglob("*.proto"))
    assert files, f"no .proto files under {proto}"
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    options = [f"-I{proto}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    code = protoc.main(["protoc", *options, *files])
    assert code == 0, f"protoc ended with {code}"
    return load_stubs(out)


def load_stubs(out):
    """Imports what was generated there."""
    sys.path.insert(0, str(out))
    made = sorted(str(path.relative_to(out)) for path in pathlib.Path(out).rglob("*_pb2.py"))
    files = [file.removesuffix("_pb2.py") + ".proto" for file in made]
    messages, stubs = {}, {}
    for file in files:
        name = file.removesuffix(".proto").replace("/", ".")
        messages.update(vars(importlib.import_module(f"{name}_pb2")))
        stubs.update(vars(importlib.import_module(f"{name}_pb2_grpc")))
    return collections.namedtuple("Contract", "files messages stubs")(files, messages, stubs)


class Walk:
    """The steps, in order; each leaves the topic as the next one expects it."""

    topic, group = "walk", "walkers"

    def __init__(self, contract, address, channel):
        self.messages, self.stubs, self.address = contract.messages, contract.stubs, address
        self.log = contract.stubs["LogServiceStub"](channel)
        self.topics = contract.stubs["TopicServiceStub"](channel)
        self.groups = contract.stubs["GroupServiceStub"](channel)

    def make(self, name, /, **fields):
        return self.messages[name](**fields)

    # Short words for the messages.

    def batch(self, records, **fields):
        content = self.make("RecordSet", records=records)
        return self.make("AppendBatch", **{"topic": self.topic, "records": content, **fields})

    def append_request(self, records, checks=(), producer=None, **fields):
        return self.make("AppendRequest", batches=[self.batch(records, **fields)], checks=checks, producer=producer)

    def append(self, records, **fields):
        return self.log.Append(self.append_request(records, **fields), timeout=DEADLINE_S)

    def next_offset_is(self, partition, next_offset):
        expected = self.make("ExpectedNextOffset", topic=self.topic, partition=partition, next_offset=next_offset)
        return self.make("Check", next_offset=expected)

    def read_all(self, topic, **fields):
        """Everything up to the present end: (partition, offset) → record, the ends, and the size of each message."""
        request = self.make(
            "ReadRequest",
            topic=topic,
            start=self.make("StartPosition", earliest=True),
            stop=self.messages["READ_STOP_AT_END"],
            **fields,
        )
        records, ends, sizes = {}, None, []
        next_offset = collections.defaultdict(int)
        for response in self.log.Read(request, timeout=DEADLINE_S):
            sizes.append((response.ByteSize(), len(response.batch.records)))
            if response.WhichOneof("event") == "batch":
                assert ends is None, "a batch after CaughtUp"
                partition = response.batch.partition
                for item in response.batch.records:
                    assert item.offset == next_offset[partition], f"offset {item.offset}, {next_offset[partition]} due"
                    assert item.append_time_us > 0
                    next_offset[partition] += 1
                    records[partition, item.offset] = item.record
                assert response.batch.next_offset == next_offset[partition]
            elif response.WhichOneof("event") == "caught_up":
                assert ends is None, "CaughtUp twice"
                ends = {end.partition: end.end_offset for end in response.caught_up.ends}
        assert ends is not None, "no CaughtUp"
        assert {partition: end for partition, end in ends.items() if end} == dict(next_offset)
        return records, ends, sizes

    def refusal(self, call, code, reason):
        """Makes a call that must be refused so, and returns the metadata of its ErrorInfo."""
        try:
            call()
        except grpc.RpcError as error:
            assert error.code() == code, f"{error.code()}, not {code}: {error.details()}"
            status = rpc_status.from_call(error)
            assert status is not None, f"no details: {error.details()}"
            return self.metadata(status, reason)
        raise AssertionError(f"not refused as {reason}")

    def metadata(self, status, reason):
        infos = []
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                infos.append(info)
        assert len(infos) == 1, f"{len(infos)} ErrorInfo in {status}"
        assert (infos[0].domain, infos[0].reason) == ("tillroll", reason), f"{infos[0]}, not {reason}"
        assert status.message and status.message[0].islower(), f"message: {status.message!r}"
        return dict(infos[0].metadata)

    # The steps.

    def learn_the_server(self):
        server = self.log.GetServer(self.make("GetServerRequest"), timeout=DEADLINE_S)
        assert server.version and server.node_id and server.incarnation >= 1
        limits = server.limits
        assert limits.max_append_bytes == 8 * MIB and limits.max_append_records == 65_536
        assert limits.max_key_bytes == 1024 and limits.max_append_batches == 1024
        # What a server does not list, it may drop without a word.
        assert {"append.checks.next_offset", "append.commits", "groups.manual"} <= set(server.features)
        self.window = limits.max_in_flight_appends
        return f"version {server.version}, {self.window} appends in flight"

    def create_a_topic(self):
        def create(partitions):
            config = self.make("TopicConfig", partitions=partitions)
            return self.topics.CreateTopic(
                self.make("CreateTopicRequest", name=self.topic, config=config), timeout=DEADLINE_S
            )

        made, again = create(3), create(3)
        assert made.created and not again.created
        assert made.topic.topic_id == again.topic.topic_id and re.fullmatch("[0-9a-f]{16}", made.topic.topic_id)
        facts = self.refusal(lambda: create(4), grpc.StatusCode.ALREADY_EXISTS, "TOPIC_EXISTS")
        assert "partitions" in facts["differences"], facts
        return f"id {made.topic.topic_id}; the same again is OK, another is TOPIC_EXISTS"

    def append_without_naming_a_partition(self):
        record = lambda **fields: self.make("Record", **fields)
        self.sent = [record(key=b"order-%d" % (at % 10), value=b"%d" % at) for at in range(30)]
        self.sent += [record(value=b"keyless %d" % at) for at in range(3)]
        header = self.make("Header", name="h", value=b"\x00\xff")
        self.sent.append(record(key=b"", value=b"", headers=[header, header], event_time_us=-1, id="i", type="t"))
        self.sent.append(record(key=b"order-0", tombstone=True))
        answer = self.append(self.sent)
        assert answer.durability == self.messages["DURABILITY_FSYNC"] and not answer.duplicate
        self.place = {}
        for part in answer.batches:
            assert (part.batch_index, part.topic, part.record_count) == (0, self.topic, len(part.record_indexes))
            for step, index in enumerate(part.record_indexes):
                assert index not in self.place
                self.place[index] = (part.partition, part.base_offset + step)
        assert sorted(self.place) == list(range(len(self.sent)))
        homes = collections.defaultdict(set)
        for index, (partition, _) in self.place.items():
            sent = self.sent[index]
            homes[sent.key if sent.HasField("key") else None].add(partition)
        assert all(len(partitions) == 1 for partitions in homes.values()), homes
        return f"{len(self.sent)} records to {len(answer.batches)} partitions, each key and the keyless ones together"

    def read_back(self):
        records, ends, _ = self.read_all(self.topic)
        assert set(ends) == {0, 1, 2}
        assert records == {place: self.sent[index] for index, place in self.place.items()}
        self.ends = ends
        return f"{len(records)} records equal, offsets dense, caught up at {sorted(ends.items())}"

    def append_on_a_stream(self, requests):
        """Sends appends, all before an answer is awaited, and returns the outcomes."""
        numbered = [
            self.make("AppendStreamRequest", append_id=number, append=request)
            for number, request in enumerate(requests, start=1)
        ]
        answers = [
            answer
            for answer in self.log.AppendStream(iter(numbered), timeout=DEADLINE_S)
            if answer.WhichOneof("event") != "heartbeat"
        ]
        assert answers[0].WhichOneof("event") == "opened" and answers[0].opened.max_in_flight_appends >= 1
        outcomes = [answer.outcome for answer in answers[1:]]
        assert [outcome.append_id for outcome in outcomes] == [request.append_id for request in numbered]
        return outcomes

    def stream_with_a_refusal_in_the_middle(self):
        record = lambda at: [self.make("Record", value=b"stream %d" % at)]
        requests = [self.append_request(record(at), partition=1) for at in range(5)]
        requests[2] = self.append_request(record(2), topic="walks")
        outcomes = self.append_on_a_stream(requests)
        results = [outcome.WhichOneof("result") for outcome in outcomes]
        assert results == ["ok", "ok", "refused", "ok", "ok"], results
        status = outcomes[2].refused
        assert status.code == grpc.StatusCode.NOT_FOUND.value[0]
        facts = self.metadata(status, "TOPIC_NOT_FOUND")
        assert facts.get("similar") == self.topic, facts
        offsets = [outcome.ok.batches[0].base_offset for outcome in outcomes if outcome.HasField("ok")]
        assert offsets == [self.ends[1] + step for step in range(4)], offsets
        self.ends[1] += 4
        return f"outcomes in order, the later two accepted at offsets {offsets[2:]}"

    def stream_as_a_producer(self):
        producer = self.log.InitProducer(self.make("InitProducerRequest", producer_id="walker"), timeout=DEADLINE_S)
        assert producer.accepted_records == 0

        def request(sequence, checks=()):
            stamp = self.make("ProducerStamp", producer_id="walker", epoch=producer.epoch, sequence=sequence)
            record = self.make("Record", value=b"stamped %d" % sequence)
            return self.append_request([record], partition=2, checks=checks, producer=stamp)

        first, end = producer.next_sequence, self.ends[2]
        wrong = [self.next_offset_is(2, end + 1000)]
        outcomes = self.append_on_a_stream([request(first), request(first + 1, wrong), request(first + 2)])
        assert outcomes[0].ok.batches[0].base_offset == end
        facts = self.metadata(outcomes[1].refused, "EXPECTED_OFFSET_MISMATCH")
        assert (facts["expected"], facts["actual"]) == (str(end + 1000), str(end + 1)), facts
        facts = self.metadata(outcomes[2].refused, "SEQUENCE_GAP")
        assert facts["next"] == str(first + 1), facts
        resent = self.append_on_a_stream([request(first + 1), request(first + 2), request(first)])
        assert [outcome.ok.batches[0].base_offset for outcome in resent] == [end + 1, end + 2, end]
        assert [outcome.ok.duplicate for outcome in resent] == [False, False, True]
        self.ends[2] += 3
        return "after a refusal SEQUENCE_GAP names the next one; a repeat gets its first answer"

    def understand_refusals(self):
        record = [self.make("Record", value=b"never")]
        status = grpc.StatusCode

        def refused(code, reason, records=record, **fields):
            return self.refusal(lambda: self.append(records, **fields), code, reason)

        wrong = [self.next_offset_is(0, self.ends[0] + 7)]
        facts = refused(status.ABORTED, "EXPECTED_OFFSET_MISMATCH", checks=wrong, partition=0)
        assert (facts["expected"], facts["actual"]) == (str(self.ends[0] + 7), str(self.ends[0])), facts
        facts = refused(status.NOT_FOUND, "PARTITION_NOT_FOUND", partition=3)
        assert facts["count"] == "3", facts
        long_key = [self.make("Record", key=b"k" * 1025)]
        facts = refused(status.INVALID_ARGUMENT, "RECORD_TOO_LARGE", records=long_key)
        assert (facts["limit"], facts["actual"]) == ("1024", "1025") and "field" in facts, facts
        refused(status.INVALID_ARGUMENT, "UNKNOWN_CHECK", checks=[self.make("Check")])
        right = [self.next_offset_is(0, self.ends[0])]
        answer = self.append([self.make("Record", value=b"checked")], checks=right, partition=0)
        assert answer.batches[0].base_offset == self.ends[0]
        self.ends[0] += 1
        records, ends, _ = self.read_all(self.topic)
        assert ends == self.ends and not any(record.value == b"never" for record in records.values())
        return "4 reasons with their facts, nothing of them written, the same channel appends on"

    def stay_below_the_default_limit(self):
        config = self.make("TopicConfig", partitions=1, max_record_bytes=3 * MIB)
        self.topics.CreateTopic(self.make("CreateTopicRequest", name="large", config=config), timeout=DEADLINE_S)
        sizes = [3 * MIB - 64] + [700_000] * 12 + [1_000] * 3_000
        for begin, end in itertools.pairwise((0, 1, 6, 11, 13, len(sizes))):
            values = [self.make("Record", value=bytes([at % 251]) * sizes[at]) for at in range(begin, end)]
            self.append(values, topic="large")
        records, ends, messages = self.read_all("large")
        assert ends == {0: len(sizes)}
        assert [len(records[0, at].value) for at in range(len(sizes))] == sizes
        assert all(set(records[0, at].value) == {at % 251} for at in range(len(sizes)))
        largest = max(size for size, _ in messages)
        largest_shared = max(size for size, count in messages if count > 1)
        assert largest < DEFAULT_RECEIVE_LIMIT and largest_shared <= MIB, (largest, largest_shared)
        return f"{sum(sizes)} bytes in {len(messages)} messages, the largest {largest}, if shared {largest_shared}"

    def be_a_manual_group(self):
        """Reads from where the group stands, and moves its cursor with what it appends, by compare and set."""
        config = self.make(
            "GroupConfig",
            topics=[self.topic],
            mode=self.messages["GROUP_MODE_MANUAL"],
            start=self.make("StartPosition", earliest=True),
        )
        request = self.make("CreateGroupRequest", name=self.group, config=config)
        made = [self.groups.CreateGroup(request, timeout=DEADLINE_S).created for _ in range(2)]
        assert made == [True, False], made
        offsets = self.unread()
        assert offsets == list(range(self.ends[1])), offsets
        done = self.make("Record", value=b"done")
        for at in offsets[:2]:
            # What came of a record and that it is done: one append.
            request = self.append_request([done], partition=2)
            request.commits.append(self.moved(at, at + 1))
            request.needs.append("append.commits")
            self.log.Append(request, timeout=DEADLINE_S)
            self.ends[2] += 1
        twice = self.append_request([done], partition=2)
        twice.commits.append(self.moved(1, 2))
        late = self.make("CommitCursorsRequest", commits=[self.moved(1, 2)])
        for call in (lambda: self.log.Append(twice, timeout=DEADLINE_S), lambda: self.commit(late)):
            facts = self.refusal(call, grpc.StatusCode.ABORTED, "EXPECTED_OFFSET_MISMATCH")
            assert (facts["expected"], facts["actual"]) == ("1", "2"), facts
        blind = self.make("CommitCursorsRequest", commits=[self.moved(None, 3)])
        self.refusal(lambda: self.commit(blind), grpc.StatusCode.INVALID_ARGUMENT, "FIELD_REQUIRED")
        cursor = self.commit(self.make("CommitCursorsRequest", commits=[self.moved(2, self.ends[1])]))
        assert (cursor.next_offset, cursor.lag_records) == (self.ends[1], 0), cursor
        assert self.unread() == []
        return f"{len(offsets)} records, each done once; a second process is told where the cursor is"

    def unread(self):
        """The offsets that the group has before it in partition 1."""
        at = self.make("StartPosition", group=self.group)
        stop = self.messages["READ_STOP_AT_END"]
        read = self.make("ReadRequest", topic=self.topic, partitions=[1], start=at, stop=stop)
        answers = [answer.batch for answer in self.log.Read(read, timeout=DEADLINE_S) if answer.HasField("batch")]
        return [item.offset for batch in answers for item in batch.records]

    def moved(self, expected, next_offset):
        place = {"group": self.group, "topic": self.topic, "partition": 1}
        return self.make("CursorCommit", next_offset=next_offset, expected_offset=expected, **place)

    def commit(self, request):
        return self.groups.CommitCursors(request, timeout=DEADLINE_S).cursors[0]

    def set_the_group_back(self):
        """Sees where the group stands, what setting it back would repeat, and then sets it."""
        asked = self.make("GetGroupRequest", name=self.group)
        group = self.groups.GetGroup(asked, timeout=DEADLINE_S).group
        cursors = {cursor.partition: (cursor.next_offset, cursor.lag_records) for cursor in group.cursors}
        assert cursors == {0: (0, self.ends[0]), 1: (self.ends[1], 0), 2: (0, self.ends[2])}, cursors
        assert not group.members and not any(cursor.holder for cursor in group.cursors), group
        explained = self.groups.ExplainGroup(self.make("ExplainGroupRequest", group=self.group), timeout=DEADLINE_S)
        assert "2 partitions behind" in explained.summary, explained

        def back(dry_run):
            to = self.make("StartPosition", last_records=3)
            where = {"group": self.group, "topic": self.topic, "partitions": [1]}
            request = self.make("SetCursorsRequest", to=to, dry_run=dry_run, reason="a bug was mended", **where)
            move = self.groups.SetCursors(request, timeout=DEADLINE_S).moves[0]
            return move.from_offset, move.to_offset, move.skipped_records, move.repeated_records, self.unread()

        end = self.ends[1]
        assert back(dry_run=True) == (end, end - 3, 0, 3, [])
        assert back(dry_run=False) == (end, end - 3, 0, 3, [end - 3, end - 2, end - 1])
        return f"{explained.summary}; set back by 3 records"

    def leave_streams_unread(self):
        """Streams whose outcomes nobody reads hold up no other call of their channel."""
        config = self.make("TopicConfig", partitions=2)
        self.topics.CreateTopic(self.make("CreateTopicRequest", name="unread", config=config), timeout=DEADLINE_S)
        sent, left = [0] * UNREAD_STREAMS, threading.Event()

        def requests(stream):
            record = [self.make("Record", value=bytes(4 << 10))]
            append = self.append_request(record, topic="unread", partition=0)
            while not left.is_set():
                sent[stream] += 1
                yield self.make("AppendStreamRequest", append_id=sent[stream], append=append)

        # With the windows that the protocol begins with, so that little is unread.
        channel = grpc.insecure_channel(self.address, options=[("grpc.http2.bdp_probe", 0)])
        log = self.stubs["LogServiceStub"](channel)
        streams = [log.AppendStream(requests(number), timeout=DEADLINE_S) for number in range(UNREAD_STREAMS)]
        # Each has begun, and nothing more of it is read: after a while none of them can send.
        for stream in streams:
            assert next(stream).WhichOneof("event") == "opened"
        beside, still, before = 0, 0, 0
        while still < 100:
            append = self.append_request([self.make("Record", value=b"beside")], topic="unread", partition=1)
            log.Append(append, timeout=DEADLINE_S)
            beside, total = beside + 1, sum(sent)
            still, before = (still + 1, total) if total == before else (0, total)
        left.set()
        for stream in streams:
            stream.cancel()
        channel.close()
        return f"{beside} appends beside {UNREAD_STREAMS} streams that took {before} and could not go on"

    def delete_the_topic(self):
        topic = self.topics.GetTopic(self.make("GetTopicRequest", name=self.topic), timeout=DEADLINE_S).topic
        request = self.make("DeleteTopicRequest", name=self.topic, topic_id=topic.topic_id)
        self.topics.DeleteTopic(request, timeout=DEADLINE_S)
        facts = self.refusal(lambda: self.read_all(self.topic), grpc.StatusCode.NOT_FOUND, "TOPIC_NOT_FOUND")
        return f"reading it is refused with {sorted(facts)}"

    steps = [
        learn_the_server,
        create_a_topic,
        append_without_naming_a_partition,
        read_back,
        stream_with_a_refusal_in_the_middle,
        stream_as_a_producer,
        understand_refusals,
        be_a_manual_group,
        set_the_group_back,
        stay_below_the_default_limit,
        leave_streams_unread,
        delete_the_topic,
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, type=pathlib.Path, help="the command tillroll")
    parser.add_argument("--proto", required=True, type=pathlib.Path, help="the folder of the contract")
    chosen = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="tillroll-client-") as folder:
        stubs = os.path.join(folder, "stubs")
        os.mkdir(stubs)
        contract = make_stubs(chosen.proto.resolve(), stubs)
        print(f"ok  make the stubs: {', '.join(contract.files)}", flush=True)
        broker = Broker(chosen.binary.resolve(), os.path.join(folder, "data"))
        try:
            address = broker.address()
            print(f"ok  start the broker: {address}", flush=True)
            with grpc.insecure_channel(address) as channel:
                walk = Walk(contract, address, channel)
                for step in walk.steps:
                    print(f"ok  {step.__name__.replace('_', ' ')}: {step(walk)}", flush=True)
            code = broker.stop()
            assert code == 0, f"the broker ended with {code}"
            print("ok  stop the broker", flush=True)
        except BaseException:
            broker.kill()
            sys.stderr.write("the broker said:\n" + "".join(broker.said))
            raise
    print(f"python client: {len(Walk.steps) + 3} steps", flush=True)


if __name__ == "__main__":
    main()
