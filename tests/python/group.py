"""A group of Python and Rust members, with one killed and one taken over, and every record handled exactly once.

The members are processes of their own: `member.py`, which has nothing but stubs made from the contract, and the Rust
SDK's example `member`. They read `orders` as the group `workers` and write `handled`, each record with its cursor in
one append. Nothing here waits for time to pass, but for what the members say and for what is in the log. What is asked
of a step comes before its records are loaded, so there is always something in hand when it happens.

At the end the log is judged by code that has nothing of the members: each input has one output (S2), caused by it (S3),
written by whoever held its partition, and nothing by a process that was taken over.

    group.py --binary target/debug/tillroll --proto proto [--rust-member target/debug/examples/member] [--seed 7]
"""

import argparse
import collections
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading

import grpc

import client
import handled_once
import member

GROUP, INPUT, OUTPUT = "workers", "orders", "handled"
PARTITIONS = 8
SESSION_MS, DRAIN_MS = 2_000, 20_000
# Everything that is loaded, and what each step adds to it.
RECORDS, STEP = 5_000, 800
# Records of one append of the load, and how far it may be ahead of the members.
LOAD_RECORDS, AHEAD = 25, 500
KEYS = 100
# No step needs as long.
PATIENCE_S = 60


class News:
    """What everybody here waits for: something was said, or came."""

    def __init__(self):
        self.changed = threading.Condition()
        self.failures, self.is_over = [], False

    def tell(self, change):
        with self.changed:
            change()
            self.changed.notify_all()

    def fail(self, why):
        self.tell(lambda: self.failures.append(why))

    def wait(self, what, predicate):
        """Returns what `predicate` says once it says something."""
        with self.changed:
            answer = self.changed.wait_for(lambda: self.failures or predicate(), timeout=PATIENCE_S)
            assert not self.failures, f"while waiting for {what}: {self.failures[0]}"
            assert answer, f"{what}: not within {PATIENCE_S} s"
            return answer

    def in_background(self, work):
        """Runs it beside the steps. What goes wrong there ends the next wait."""

        def run():
            try:
                work()
            except Exception as error:
                # Once the test is over, its channel is closed under whatever still runs.
                if not self.is_over:
                    self.fail(f"{work.__name__}: {error!r}")

        threading.Thread(target=run, daemon=True).start()


class Process:
    """A member as a process, and all that it has said."""

    def __init__(self, news, member_id, instance, command):
        self.news, self.member_id, self.instance = news, member_id, instance
        self.said, self.ends_with, self.may_end = [], None, False
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        news.in_background(self.listen)

    def listen(self):
        for line in self.process.stdout:
            said = json.loads(line)
            self.news.tell(lambda said=said: self.said.append(said))
        code = self.process.wait()
        self.news.tell(lambda: setattr(self, "ends_with", code))
        if not self.may_end:
            self.news.fail(f"{self.name} ended with {code}")

    @property
    def name(self):
        return f"{self.member_id}/{self.instance}"

    def tell(self, order):
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()

    def all_said(self, what):
        return [said for said in self.said if said["said"] == what]

    def wait(self, what, count=1):
        """What it said when it said so for the `count`-th time."""
        says = lambda: len(self.all_said(what)) >= count
        self.news.wait(f"{self.name} to say {what!r}", says)
        return self.all_said(what)[count - 1]

    def held(self):
        """The partitions and epochs that it holds, as far as it was told."""
        told = [said["held"] for said in self.said if "held" in said]
        return {partition: epoch for partition, epoch in told[-1]} if told else {}

    def end(self, code):
        """Waits for its end, which must be this one."""
        self.news.wait(f"{self.name} to end", lambda: self.ends_with is not None)
        assert self.ends_with == code, f"{self.name} ended with {self.ends_with}, not {code}"

    def leave(self):
        self.may_end = True
        self.process.stdin.close()

    def kill(self):
        self.may_end = True
        self.process.kill()


class Road:
    """The broker as the test itself uses it: it loads the input and follows the output."""

    def __init__(self, contract, channel, news, seed):
        self.messages, self.news = contract.messages, news
        self.log = contract.stubs["LogServiceStub"](channel)
        self.topics = contract.stubs["TopicServiceStub"](channel)
        self.groups = contract.stubs["GroupServiceStub"](channel)
        self.dice = random.Random(seed)
        self.loaded = self.target = self.handled = 0
        self.ends = collections.Counter()

    def make(self, name, /, **fields):
        return self.messages[name](**fields)

    def create(self):
        for topic in (INPUT, OUTPUT):
            config = self.make("TopicConfig", partitions=PARTITIONS)
            request = self.make("CreateTopicRequest", name=topic, config=config)
            self.topics.CreateTopic(request, timeout=client.DEADLINE_S)
        config = self.make(
            "GroupConfig",
            topics=[INPUT],
            mode=self.messages["GROUP_MODE_MEMBERS"],
            rule=self.messages["ASSIGNMENT_RULE_SPREAD"],
            start=self.make("StartPosition", earliest=True),
            session_ms=SESSION_MS,
            drain_ms=DRAIN_MS,
        )
        request = self.make("CreateGroupRequest", name=GROUP, config=config)
        self.groups.CreateGroup(request, timeout=client.DEADLINE_S)

    # What runs beside the steps.

    def load(self):
        """Appends the input as a producer, as far as a step wants it and not too far ahead of the members."""
        asked = self.make("InitProducerRequest", producer_id="storefront")
        producer = self.log.InitProducer(asked, timeout=client.DEADLINE_S)
        sequence = producer.next_sequence
        may_load = lambda: self.loaded < self.target and self.loaded - self.handled <= AHEAD
        while self.loaded < RECORDS:
            with self.news.changed:
                self.news.changed.wait_for(may_load)
            records = self.make("RecordSet", records=[self.order(self.loaded + at) for at in range(LOAD_RECORDS)])
            stamp = self.make(
                "ProducerStamp", producer_id=producer.producer_id, epoch=producer.epoch, sequence=sequence
            )
            batch = self.make("AppendBatch", topic=INPUT, records=records)
            request = self.make("AppendRequest", batches=[batch], producer=stamp)
            answer = self.log.Append(request, timeout=client.DEADLINE_S)
            sequence = answer.next_sequence
            self.news.tell(lambda: setattr(self, "loaded", self.loaded + LOAD_RECORDS))

    def order(self, number):
        # The first orders reach every key.
        key = f"order-{number if number < KEYS else self.dice.randrange(KEYS):02}"
        value = {"order": key, "pence": self.dice.randrange(1, 100_000), "note": "x" * self.dice.randrange(200)}
        return self.make(
            "Record",
            key=key.encode(),
            value=json.dumps(value).encode(),
            id=f"placed-{number:05}",
            type="OrderPlaced.v1",
            source="storefront",
            correlation_id=key,
        )

    def follow(self):
        """Counts what comes on the output."""
        for response in self.log.Read(self.read_request(OUTPUT, "READ_STOP_FOLLOW")):
            self.news.tell(lambda: self.came(response.batch))

    def came(self, batch):
        self.handled += len(batch.records)
        self.ends[batch.partition] = max(self.ends[batch.partition], batch.next_offset)

    # What the steps ask for.

    def want(self, count):
        """Has so many records more loaded."""
        self.news.tell(lambda: setattr(self, "target", self.target + count))

    def wait_until_handled(self):
        """Waits until everything that a step wanted has an output."""
        self.news.wait(f"{self.target} records to be handled", lambda: self.handled >= self.target)

    def wait_until_written(self, places):
        """Waits until these records of the input have their outputs, which stand at the same places."""
        is_there = lambda: all(self.ends[partition] > offset for partition, offset in places)
        self.news.wait(f"the outputs of {places}", is_there)

    def read_request(self, topic, stop):
        start = self.make("StartPosition", earliest=True)
        return self.make("ReadRequest", topic=topic, start=start, stop=self.messages[stop])

    def read(self, topic):
        """All there is: (partition, offset) → item."""
        items = {}
        for response in self.log.Read(self.read_request(topic, "READ_STOP_AT_END"), timeout=client.DEADLINE_S):
            for item in response.batch.records:
                items[response.batch.partition, item.offset] = handled_once.Item(item.append_time_us, item.record)
        return items

    def group(self):
        return self.groups.GetGroup(self.make("GetGroupRequest", name=GROUP), timeout=client.DEADLINE_S).group

    def set_cursor_to_itself(self, partition):
        at = next(cursor.next_offset for cursor in self.group().cursors if cursor.partition == partition)
        request = self.make(
            "SetCursorsRequest",
            group=GROUP,
            topic=INPUT,
            partitions=[partition],
            to=self.make("StartPosition", offset=at),
            with_members=True,
            reason="a test of fences",
        )
        return self.groups.SetCursors(request, timeout=client.DEADLINE_S).moves[0]

    def explained(self):
        request = self.make("ExplainGroupRequest", group=GROUP)
        return self.groups.ExplainGroup(request, timeout=client.DEADLINE_S)


class Test:
    """The steps, in order."""

    def __init__(self, asked, contract, address, channel, stubs):
        self.asked, self.address, self.stubs = asked, address, stubs
        self.news = News()
        self.road = Road(contract, channel, self.news, asked.seed)
        self.working, self.processes = {}, []

    def start(self, name, instance, command):
        process = Process(self.news, name, instance, command)
        self.processes.append(process)
        return process

    def python(self, name, instance):
        options = {"server": self.address, "stubs": self.stubs, "group": GROUP, "member": name, "instance": instance}
        options |= {"input": INPUT, "output": OUTPUT}
        script = pathlib.Path(member.__file__)
        words = [word for option, value in options.items() for word in (f"--{option}", value)]
        return self.start(name, instance, [sys.executable, script, *words])

    def rust(self, name):
        """The SDK makes up the name of the process."""
        process = self.start(name, "", [self.asked.rust_member, self.address, GROUP, name, INPUT, OUTPUT])
        process.instance = process.wait("joined")["instance"]
        return process

    def shared(self):
        """How many partitions each working member holds, once all of them are held and evenly so."""
        counts = lambda: [len(process.held()) for process in self.working.values()]
        is_even = lambda: sum(counts()) == PARTITIONS and max(counts()) - min(counts()) <= 1
        self.news.wait(f"{PARTITIONS} partitions to be held, evenly", is_even)
        held = [process.held() for process in self.working.values()]
        assert len(set().union(*held)) == PARTITIONS, held
        return ", ".join(f"{name} {len(process.held())}" for name, process in self.working.items())

    # The steps.

    def three_python_members_share_the_partitions(self):
        self.road.create()
        self.news.in_background(self.road.load)
        self.news.in_background(self.road.follow)
        for name in ("py-0", "py-1", "py-2"):
            self.working[name] = self.python(name, "first")
        for process in self.working.values():
            assert not process.wait("joined")["resumed"]
        self.road.want(STEP)
        shares = self.shared()
        self.road.wait_until_handled()
        return shares

    def a_rust_member_joins_while_they_work(self):
        self.road.want(STEP)
        said = lambda what: sum(len(process.all_said(what)) for process in self.working.values())
        before = said("lost")
        self.working["rust-0"] = self.rust("rust-0")
        shares = self.shared()
        assert said("lost") > before and said("revoking"), "nothing was asked back"
        self.road.wait_until_handled()
        return shares

    def one_is_killed_with_records_in_hand(self):
        killed = self.working.pop("py-2")
        killed.tell("halt")
        self.road.want(STEP)
        halted = killed.wait("halted")
        assert halted["in_hand"] and halted["in_flight"], halted
        killed.kill()
        killed.end(-9)
        self.killed_with = halted
        shares = self.shared()
        self.road.wait_until_handled()
        in_hand, in_flight = len(halted["in_hand"]), len(halted["in_flight"])
        return f"{in_hand} records in hand, {in_flight} in flight; its session over: {shares}"

    def one_is_taken_over_with_records_in_hand(self):
        older = self.working.pop("py-1")
        older.tell("halt")
        self.road.want(STEP)
        halted = older.wait("halted")
        assert halted["in_hand"], halted
        newer = self.working["py-1"] = self.python("py-1", "second")
        assert not newer.wait("joined")["resumed"]
        newer.wait("assigned")
        before, after = dict(halted["held"]), newer.held()
        assert before and all(after[partition] > epoch for partition, epoch in before.items()), (before, after)
        self.taken_over_us = next(one.joined_time_us for one in self.road.group().members if one.member_id == "py-1")
        # It knows nothing of that yet, and goes on with what it has.
        older.may_end = True
        older.tell("go")
        older.end(member.TAKEN_OVER)
        fenced, late = older.all_said("fenced"), older.all_said("taken over")
        assert fenced and late and not older.all_said("broken"), older.said[-5:]
        self.road.wait_until_handled()
        return f"its next append was refused, it ended with TAKEN_OVER; {len(after)} partitions under new epochs"

    def one_comes_back_over_broken_streams(self):
        broken = self.working["py-0"]
        broken.tell("halt")
        self.road.want(STEP)
        halted = broken.wait("halted")
        # Its append is written, and the answer never reaches it.
        self.road.wait_until_written(halted["in_flight"])
        counts = [len(broken.all_said(what)) for what in ("joined", "assigned")]
        broken.tell("break")
        assert broken.wait("joined", counts[0] + 1)["resumed"]
        after = broken.wait("assigned", counts[1] + 1)["held"]
        assert sorted(after) == sorted(halted["held"]), (halted["held"], after)
        self.road.wait_until_handled()
        again = [said for said in broken.all_said("done") if said["duplicate"]]
        places = [[said["place"][0], at] for said in again for at in range(said["first"], said["next"])]
        assert places == halted["in_flight"], (places, halted["in_flight"])
        return f"resumed with the same {len(after)} partitions and epochs; {len(again)} appends were answered again"

    def one_goes_on_when_a_single_partition_is_fenced(self):
        """An operator sets a cursor to where it is: no record is skipped or repeated, and its member is fenced."""
        fenced = self.working["py-1"]
        fenced.tell("halt")
        self.road.want(STEP)
        halted = fenced.wait("halted")
        self.road.wait_until_written(halted["in_flight"])
        partition = halted["in_hand"][0][0]
        move = self.road.set_cursor_to_itself(partition)
        assert move.from_offset == move.to_offset and not move.skipped_records + move.repeated_records, move
        fenced.tell("go")
        assert fenced.wait("fenced")["place"] == [partition, dict(halted["held"])[partition]]
        self.road.wait_until_handled()
        assert len(fenced.all_said("fenced")) == 1, fenced.all_said("fenced")
        self.shared()
        behind = len(fenced.all_said("behind a refusal"))
        return f"{behind} appends stood behind the refused one, and those of other partitions went through"

    def the_group_is_where_it_should_be(self):
        self.road.want(RECORDS - self.road.target)
        self.road.wait_until_handled()
        shares = self.shared()
        group = self.road.group()
        there = {(one.member_id, one.instance_id) for one in group.members}
        assert there == {(process.member_id, process.instance) for process in self.working.values()}, there
        for one in group.members:
            held = {given.partition: given.assignment_epoch for given in one.assignments}
            assert one.connected and held == self.working[one.member_id].held(), one
        self.epochs = sum(given.assignment_epoch for one in group.members for given in one.assignments)
        ends = collections.Counter(partition for partition, _ in self.road.read(INPUT))
        assert {cursor.partition: cursor.next_offset for cursor in group.cursors} == ends, group.cursors
        assert all(cursor.lag_records == cursor.lag_ms == 0 for cursor in group.cursors), group.cursors
        explained = self.road.explained()
        assert [finding.reason for finding in explained.findings] == ["CAUGHT_UP"], explained
        return f"{explained.summary}; {shares}"

    def every_record_was_handled_once(self):
        inputs, outputs = self.road.read(INPUT), self.road.read(OUTPUT)
        assert len(inputs) == len(outputs) == RECORDS, (len(inputs), len(outputs))
        judge = lambda outputs: handled_once.judge(GROUP, INPUT, inputs, outputs)
        wrong = judge(outputs)
        assert not wrong, f"{len(wrong)} findings: {wrong[:10]}"
        found = {name: judge(spoilt) for name, spoilt in handled_once.spoiled(outputs).items()}
        assert all(found.values()), f"not found: {[name for name, wrong in found.items() if not wrong]}"
        self.by = {place: handled_once.by(output.record) for place, output in outputs.items()}
        late = [place for place, by in self.by.items() if by[:2] == ("py-1", "first")]
        late = [place for place in late if outputs[place].time_us > self.taken_over_us]
        assert not late, f"written after the takeover: {late[:10]}"
        for place in map(tuple, self.killed_with["in_hand"]):
            assert self.by[place][0] != "py-2", f"{place} was in its hand, and is by {self.by[place]}"
        return f"{len(inputs)} inputs, {len(outputs)} outputs; {len(found)} spoiled logs were found"

    def what_the_members_say_is_in_the_log(self):
        acked = {}
        for process in self.processes:
            for said in process.all_said("done"):
                (partition, epoch), name = said["place"], process.name
                for place in ((partition, at) for at in range(said["first"], said["next"])):
                    assert place not in acked, f"{place} was acked to {acked[place]} and to {name}"
                    acked[place] = name
                    assert self.by[place] == (*name.split("/"), str(epoch)), f"{place}: {said}, {self.by[place]}"
        lost = {place: by for place, by in self.by.items() if place not in acked}
        # Only a process that was killed cannot say what it has done.
        in_flight = set(map(tuple, self.killed_with["in_flight"]))
        assert set(lost) <= in_flight, lost
        # Whoever finishes before it gives back meets no fence.
        fenced = {process.name for process in self.processes if process.all_said("fenced")}
        assert fenced == {"py-1/first", "py-1/second"}, fenced
        return f"{len(acked)} records acked to members, {len(lost)} written by one that was killed before its answer"

    def all_leave(self):
        for process in self.working.values():
            process.leave()
        for process in self.working.values():
            process.end(member.LEFT)
        group = self.road.group()
        assert not group.members and not any(cursor.holder for cursor in group.cursors), group
        assert [finding.reason for finding in self.road.explained().findings] == ["NO_MEMBERS", "CAUGHT_UP"]
        return "no member is left, the cursors are"

    def tell(self):
        records = collections.Counter(by[:2] for by in self.by.values())
        told = ", ".join(f"{name} ({instance[-8:]}) {count}" for (name, instance), count in sorted(records.items()))
        said = lambda what: [said for process in self.processes for said in process.all_said(what)]
        again = sum(one["duplicate"] for one in said("done"))
        print(f"records by member: {told}")
        print(f"partitions: given {self.epochs} times, asked back in {len(said('revoking'))} messages")
        behind = len(said("behind a refusal"))
        print(f"appends: {len(said('fenced'))} refused by a fence, {behind} behind those, {again} answered twice")

    steps = [
        three_python_members_share_the_partitions,
        a_rust_member_joins_while_they_work,
        one_is_killed_with_records_in_hand,
        one_is_taken_over_with_records_in_hand,
        one_comes_back_over_broken_streams,
        one_goes_on_when_a_single_partition_is_fenced,
        the_group_is_where_it_should_be,
        every_record_was_handled_once,
        what_the_members_say_is_in_the_log,
        all_leave,
    ]

    def run(self):
        try:
            for step in self.steps:
                print(f"ok  {step.__name__.replace('_', ' ')}: {step(self)}", flush=True)
            self.tell()
        finally:
            self.news.is_over = True
            for process in self.processes:
                process.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, type=pathlib.Path, help="the command tillroll")
    parser.add_argument("--proto", required=True, type=pathlib.Path, help="the folder of the contract")
    parser.add_argument("--seed", type=int, default=7, help="of the orders that are loaded")
    parser.add_argument("--rust-member", type=pathlib.Path, help="the example `member` of the SDK")
    asked = parser.parse_args()
    asked.rust_member = (asked.rust_member or asked.binary.parent / "examples" / "member").resolve()
    print(f"ok  seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tillroll-group-") as folder:
        stubs = os.path.join(folder, "stubs")
        os.mkdir(stubs)
        contract = client.make_stubs(asked.proto.resolve(), stubs)
        broker = client.Broker(asked.binary.resolve(), os.path.join(folder, "data"))
        try:
            address = broker.address()
            with grpc.insecure_channel(address) as channel:
                Test(asked, contract, address, channel, stubs).run()
            code = broker.stop()
            assert code == 0, f"the broker ended with {code}"
        except BaseException:
            broker.kill()
            sys.stderr.write("the broker said:\n" + "".join(broker.said))
            raise
    print(f"python group: {len(Test.steps)} steps", flush=True)


if __name__ == "__main__":
    main()
