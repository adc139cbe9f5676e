"""An ack means a sync: the broker's own system calls say so.

Runs the broker under strace and makes single unary appends, one after the other, each with a value that is found
nowhere else. Every answer on the socket must be preceded by the write of its bytes to a journal file that has
completed, and by a sync of that same file that began after that write and has completed.

    acks.py --binary target/debug/tillroll --proto proto [--appends 200]
"""

import argparse
import collections
import pathlib
import re
import sys
import tempfile
import time

import grpc

import client

TOPIC = "acks-under-a-looking-glass"
CALLS = "pwrite64,pwritev,pwritev2,fdatasync,fsync,write,writev,sendto,sendmsg"
WHOLE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
BEGUN = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
ENDED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")
FILE = re.compile(r"^\d+<([^>]*)>")

HEX = re.compile(r"\\x([0-9a-f]{2})")

Call = collections.namedtuple("Call", "name file text begun ended result")


def hexed(text):
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def parse(lines):
    """The calls of a trace; `begun` and `ended` are line numbers, which is the order in which strace saw them."""
    calls, open_calls = [], {}
    for number, line in enumerate(lines):
        if found := WHOLE.match(line):
            pid, name, text, result = found.groups()
            calls.append(call(name, text, number, number, result))
        elif found := BEGUN.match(line):
            pid, name, text = found.groups()
            open_calls[pid] = (name, text, number)
        elif found := ENDED.match(line):
            pid, name, rest, result = found.groups()
            if pid in open_calls:
                _, text, begun = open_calls.pop(pid)
                calls.append(call(name, text + rest, begun, number, result))
    return calls


def call(name, text, begun, ended, result):
    found = FILE.match(text)
    # In hex mode strace prints paths as it prints data; sockets stay words.
    file = HEX.sub(lambda byte: chr(int(byte.group(1), 16)), found.group(1)) if found else ""
    return Call(name, file, text, begun, ended, int(result))


def judge(calls, probes, topic):
    """What is wrong, in words; nothing when every answer is preceded by its write and its sync."""
    answers = [one for one in calls if one.file.startswith("TCP:") and hexed(topic) in one.text and one.result > 0]
    # The topic's own creation is answered with its name as well, before the first append.
    answers = sorted(answers, key=lambda one: one.begun)[1:]
    if len(answers) != len(probes):
        return [f"{len(probes)} appends and {len(answers)} answers"]
    wrong = []
    for probe, answer in zip(probes, answers):
        writes = [one for one in calls if "/journal/" in one.file and hexed(probe) in one.text and one.result > 0]
        if not any(covered(write, calls, answer) for write in writes):
            seen = ", ".join(f"{one.file} ended at line {one.ended}" for one in writes) or "none"
            wrong.append(f"{probe}: answered at line {answer.begun}, writes: {seen}, no sync between")
    return wrong


def covered(write, calls, answer):
    syncs = [one for one in calls if one.name in ("fdatasync", "fsync") and one.file == write.file and one.result == 0]
    return any(write.ended < one.begun and one.ended < answer.begun for one in syncs)


def check_the_check():
    """A check that cannot fail proves nothing: spoiled traces must be found."""
    probe, slot, other = "probe-1", "/d/journal/slot-000", "/d/journal/slot-001"
    write = f'7 pwrite64(9<{slot}>, "{hexed(probe)}", 4096, 8192) = 4096'
    sync = f"8 fdatasync(9<{slot}>) = 0"
    answer = f'6 sendto(12<TCP:[1->2]>, "{hexed(TOPIC)}", 64, 0, NULL, 0) = 64'
    made = answer
    split = [f"8 fdatasync(9<{slot}> <unfinished ...>", answer, "8 <... fdatasync resumed>) = 0"]
    spoiled = {
        "no sync": [write, answer],
        "sync of another file": [write, sync.replace(slot, other), answer],
        "sync before the write": [sync, write, answer],
        "sync behind the answer": [write, answer, sync],
        "sync that failed": [write, sync.replace("= 0", "= -1 EIO"), answer],
        "sync that ended behind the answer": [write, *split],
        "no write": [sync, answer],
        "no answer": [write, sync],
    }
    assert not judge(parse([made, write, sync, answer]), [probe], TOPIC), "a good trace is good"
    for name, lines in spoiled.items():
        assert judge(parse([made, *lines]), [probe], TOPIC), f"{name} was not found"
    return len(spoiled)


class TracedBroker(client.Broker):
    """The same broker, with strace in front."""

    def __init__(self, binary, data, trace):
        wrapper = pathlib.Path(trace).with_name("traced")
        strace = f"exec strace -D -f -yy -xx -s 65536 -e trace={CALLS} -o '{trace}' '{binary}' \"$@\"\n"
        wrapper.write_text(f"#!/bin/sh\n{strace}")
        wrapper.chmod(0o755)
        super().__init__(str(wrapper), data)


def run(binary, proto, appends):
    with tempfile.TemporaryDirectory() as scratch:
        trace = str(pathlib.Path(scratch) / "trace")
        v1 = stubs(proto, scratch)
        broker = TracedBroker(binary, str(pathlib.Path(scratch) / "data"), trace)
        try:
            probes = append_all(v1, broker.address(), appends)
            broker.stop()
        finally:
            broker.kill()
        return probes, judge(parse(whole(pathlib.Path(trace))), probes, TOPIC)


def whole(trace):
    """The lines of a trace, once strace has written the last one: the end of the traced process itself."""
    for _ in range(client.STOP_S * 20):
        lines = trace.read_text(encoding="ascii", errors="replace").splitlines()
        if lines and any(line.endswith("+++ exited with 0 +++") for line in lines[-3:]):
            return lines
        time.sleep(0.05)
    raise AssertionError("the trace never ended")


def stubs(proto, scratch):
    out = pathlib.Path(scratch) / "stubs"
    out.mkdir()
    return client.make_stubs(pathlib.Path(proto).resolve(), str(out))


def append_all(contract, address, appends):
    make = contract.messages
    probes = [f"probe-{number:06d}-of-{appends}" for number in range(appends)]
    with grpc.insecure_channel(address) as channel:
        topics = contract.stubs["TopicServiceStub"](channel)
        config = make["TopicConfig"](partitions=1)
        topics.CreateTopic(make["CreateTopicRequest"](name=TOPIC, config=config), timeout=client.DEADLINE_S)
        log = contract.stubs["LogServiceStub"](channel)
        for probe in probes:
            records = make["RecordSet"](records=[make["Record"](value=probe.encode())])
            batch = make["AppendBatch"](topic=TOPIC, partition=0, records=records)
            log.Append(make["AppendRequest"](batches=[batch]), timeout=client.DEADLINE_S)
    return probes


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--proto", required=True)
    arguments.add_argument("--appends", type=int, default=200)
    asked = arguments.parse_args()
    print(f"ok  the check finds {check_the_check()} spoiled traces")
    probes, wrong = run(asked.binary, asked.proto, asked.appends)
    for one in wrong[:10]:
        print(f"WRONG  {one}")
    if wrong:
        return 1
    print(f"ok  {len(probes)} appends: every answer came after the write and the sync of its journal file")
    return 0


if __name__ == "__main__":
    sys.exit(main())
