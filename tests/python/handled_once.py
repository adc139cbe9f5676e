"""Judges an output topic: every record of the input was handled exactly once, by whoever held its partition.

From the records of both topics alone, with no code of whoever wrote them. Each output names its step in the header
`tillroll-step: group/topic/partition/offset/k/n` and its process in `handled-by: member/instance/epoch`; it has its
input's key, its input's id as causation id, and its input's value in capitals. Both topics have as many partitions, so
an output stands in the partition of its input, and at the same offset.

What is found names the rule: S2, one output for each input; S3, its cause; ORDER; FENCE, one process an epoch and no
epoch after a higher one.
"""

import collections
import copy

Item = collections.namedtuple("Item", "time_us record")
Step = collections.namedtuple("Step", "group topic partition offset k n")


def header(record, name):
    """The value of the one header of that name; empty when there is none, or another one."""
    values = [header.value.decode() for header in record.headers if header.name == name]
    return values[0] if len(values) == 1 else ""


def step(record):
    """What a record is the output of; None when it does not say."""
    parts = header(record, "tillroll-step").split("/")
    if len(parts) != 6 or not all(part.isdecimal() for part in parts[2:]):
        return None
    return Step(parts[0], parts[1], *map(int, parts[2:]))


def by(record):
    """Who wrote a record: member, instance and epoch."""
    name, _, rest = header(record, "handled-by").partition("/")
    instance, _, epoch = rest.rpartition("/")
    return name, instance, epoch


def judge(group, topic, inputs, outputs):
    """What is wrong, in words; nothing when each input has its one output. Both are (partition, offset) → Item."""
    wrong, counts, ids = [], collections.Counter(), collections.Counter()
    for place, output in outputs.items():
        ids[output.record.id] += 1
        one = step(output.record)
        if one is None or (one.group, one.topic) != (group, topic):
            wrong.append(f"S2: the output at {place} is of the step {one}")
            continue
        counts[one.partition, one.offset, one.k] += 1
        if (one.k, one.n) != (0, 1):
            wrong.append(f"S2: the output at {place} is number {one.k} of {one.n}")
        wrong += caused(inputs, place, output, one)
    wrong += [f"S2: {cause} has {counts[*cause, 0]} outputs" for cause in inputs if counts[*cause, 0] != 1]
    wrong += [f"S2: the id {known!r} is there {count} times" for known, count in ids.items() if count > 1 or not known]
    return wrong + fenced(outputs)


def caused(inputs, place, output, one):
    """What is wrong with an output, beside its input."""
    cause = (one.partition, one.offset)
    if cause not in inputs:
        return [f"S3: the output at {place} is of {cause}, which is not there"]
    wrong, source, record = [], inputs[cause].record, output.record
    if (record.causation_id, record.key, record.value) != (source.id, source.key, source.value.upper()):
        wrong.append(f"S3: the output at {place} is not what comes of {source.id} at {cause}")
    if output.time_us < inputs[cause].time_us:
        wrong.append(f"S3: the output at {place} is older than its cause at {cause}")
    if place != cause:
        wrong.append(f"ORDER: the output of {cause} stands at {place}")
    return wrong


def fenced(outputs):
    """Who wrote after somebody else had the partition, or at the same time."""
    wrong, holders, last = [], {}, collections.Counter()
    for (partition, offset), output in sorted(outputs.items()):
        name, instance, epoch = by(output.record)
        if not epoch.isdecimal():
            wrong.append(f"FENCE: the output at {(partition, offset)} does not say who wrote it")
            continue
        held, epoch = (partition, int(epoch)), int(epoch)
        if holders.setdefault(held, (name, instance)) != (name, instance):
            wrong.append(f"FENCE: partition {partition} was held by two under epoch {epoch}: {holders[held]}, {name}")
        if last[partition] > epoch:
            wrong.append(f"FENCE: {(partition, offset)} is under epoch {epoch}, behind one under {last[partition]}")
        last[partition] = max(last[partition], epoch)
    return wrong


def spoiled(outputs):
    """A good log with one thing wrong, by what it is: a judge that finds nothing in one of them is none."""
    places = sorted(outputs)
    first, second, last = places[0], places[1], places[-1]

    def changed(place, change):
        record = copy.deepcopy(outputs[place].record)
        change(record)
        return {**outputs, place: Item(outputs[place].time_us, record)}

    def replaced(place, name, old, new):
        def change(record):
            one = next(header for header in record.headers if header.name == name)
            one.value = one.value.decode().replace(old, new).encode()

        return changed(place, change)

    other, epoch = outputs[second].record, by(outputs[second].record)[2]
    named = header(other, "handled-by")
    return {
        "dropped": {place: output for place, output in outputs.items() if place != last},
        "doubled": {**outputs, (last[0], last[1] + 1): outputs[last]},
        "number": replaced(first, "tillroll-step", "/0/1", "/1/1"),
        "count": replaced(first, "tillroll-step", "/0/1", "/0/2"),
        "no step": changed(first, lambda record: record.headers.pop(0)),
        "step of nothing": replaced(first, "tillroll-step", "/0/1", "9999999/0/1"),
        "id": changed(first, lambda record: setattr(record, "id", other.id)),
        "cause": changed(first, lambda record: setattr(record, "causation_id", other.causation_id)),
        "key": changed(first, lambda record: setattr(record, "key", other.key + b"x")),
        "value": changed(first, lambda record: setattr(record, "value", other.value)),
        "older than its cause": {**outputs, first: Item(0, outputs[first].record)},
        "swapped": {**outputs, first: outputs[second], second: outputs[first]},
        "after a fence": replaced(second, "handled-by", named, "late/x/0"),
        "two at once": replaced(second, "handled-by", named, f"other/x/{epoch}"),
        "nobody": replaced(second, "handled-by", named, ""),
    }
