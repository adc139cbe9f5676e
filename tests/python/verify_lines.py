"""Proves that a log holds the lines of a CSV file: each once, in order, unchanged.

Independent of the project's own code: the file is parsed by Python's csv, money is decimal, and the records are what a
reader printed, one JSON object a line:

    {"partition": 3, "offset": 17, "key": "536365", "id": "retail.csv#4", "event_time": "2010-12-01T08:26:00Z",
     "value": {"InvoiceNo": "536365", ...}}

`value` is an object of strings by column name, or a string that holds one. `event_time` is RFC 3339, or a number of
microseconds since 1970. Counts and sums alone cannot see a loss, since the data has exact duplicates of lines: the id
tells them apart.

    verify_lines.py --csv retail.csv.zst --records read.jsonl [--lines 3108] [--source NAME] [--sum 58635.56]
"""

import argparse
import collections
import csv
import datetime
import decimal
import io
import json
import sys

import zstandard

DIFFERENCES_SHOWN = 10


def opened(path):
    """The text of a file, unpacked when its name says so; `-` is standard input."""
    if path == "-":
        binary = sys.stdin.buffer
    elif path.endswith(".zst"):
        binary = zstandard.open(path, "rb")
    else:
        binary = open(path, "rb")
    return io.TextIOWrapper(binary, encoding="utf-8", newline="")


def lines_of(path, limit):
    """The header, and the fields of data line 1, 2, …"""
    with opened(path) as text:
        rows = csv.reader(text, strict=True)
        header = next(rows)
        lines = []
        for row in rows:
            if limit and len(lines) == limit:
                break
            if len(row) != len(header):
                raise ValueError(f"{path}: data line {len(lines) + 1} has {len(row)} fields, the header {len(header)}")
            lines.append(tuple(row))
    return header, lines


def records_of(path):
    """The records in the order in which they were read."""
    with opened(path) as text:
        for line in text:
            if line.strip():
                yield json.loads(line)


def micros(event_time):
    """Microseconds since 1970 of a number or an RFC 3339 text."""
    if event_time is None or isinstance(event_time, int):
        return event_time
    stamp = datetime.datetime.fromisoformat(event_time.replace("Z", "+00:00"))
    return round(stamp.timestamp() * 1_000_000)


class Proof:
    """What was found so far. `differences` stays empty as long as the log and the file agree."""

    def __init__(self, header, lines, *, source=None, key_column="InvoiceNo", time_column="InvoiceDate"):
        self.header, self.lines, self.source = header, lines, source
        self.key = header.index(key_column)
        self.time = header.index(time_column)
        self.quantity, self.price = header.index("Quantity"), header.index("UnitPrice")
        self.differences, self.difference_count = [], 0
        self.seen = bytearray(len(lines))
        self.next_offset = collections.defaultdict(int)
        self.last_line = {}
        self.home = {}
        self.total = decimal.Decimal(0)
        self.records = 0

    def differ(self, text):
        self.difference_count += 1
        if len(self.differences) < DIFFERENCES_SHOWN:
            self.differences.append(text)

    def take(self, record):
        """One record, in the order of reading."""
        self.records += 1
        partition, offset = record["partition"], record["offset"]
        where = f"partition {partition} offset {offset}"
        if offset != self.next_offset[partition]:
            self.differ(f"{where}: offset {self.next_offset[partition]} was due")
        self.next_offset[partition] = offset + 1

        source, _, number = (record.get("id") or "").rpartition("#")
        if not number.isdecimal() or not 1 <= int(number) <= len(self.lines):
            self.differ(f"{where}: id {record.get('id')!r} is no line of the file")
            return
        number = int(number)
        if self.source is None:
            self.source = source
        if source != self.source:
            self.differ(f"{where}: id {record['id']!r} is of another source than {self.source!r}")
        if self.seen[number - 1]:
            self.differ(f"{where}: line {number} a second time")
        self.seen[number - 1] = 1
        self.compare(where, number, record)

    def compare(self, where, number, record):
        expected = self.lines[number - 1]
        value = record["value"]
        if isinstance(value, str):
            value = json.loads(value)
        if value != dict(zip(self.header, expected)):
            self.differ(f"{where}: line {number} reads {value}, the file has {dict(zip(self.header, expected))}")
        if record.get("key") != expected[self.key]:
            self.differ(f"{where}: line {number} has key {record.get('key')!r}, not {expected[self.key]!r}")
        due = micros(expected[self.time].replace(" ", "T") + "Z")
        actual = micros(record.get("event_time", record.get("event_time_us")))
        if actual != due:
            self.differ(f"{where}: line {number} has event time {actual}, not {due}")

        invoice = expected[self.key]
        if self.last_line.get(invoice, 0) >= number:
            self.differ(f"{where}: line {number} of invoice {invoice} after line {self.last_line[invoice]}")
        self.last_line[invoice] = number
        home = self.home.setdefault(invoice, record["partition"])
        if home != record["partition"]:
            self.differ(f"{where}: invoice {invoice} is in partition {home} as well")
        try:
            self.total += decimal.Decimal(value["Quantity"]) * decimal.Decimal(value["UnitPrice"])
        except (KeyError, TypeError, decimal.InvalidOperation) as error:
            self.differ(f"{where}: line {number} has no price: {error!r}")

    def finish(self, due=None):
        """The end of the log: what is missing, and whether the sums agree."""
        missing = [index + 1 for index, seen in enumerate(self.seen) if not seen]
        for number in missing:
            self.differ(f"line {number} is not in the log")
        file_total = sum(
            (decimal.Decimal(line[self.quantity]) * decimal.Decimal(line[self.price]) for line in self.lines),
            decimal.Decimal(0),
        )
        if self.total != file_total:
            self.differ(f"the sum is {self.total}, of the file {file_total}")
        if due is not None and self.total != due:
            self.differ(f"the sum is {self.total}, not {due}")
        return not self.difference_count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", required=True, help="the source, plain or .zst")
    parser.add_argument("--records", required=True, help="what was read, one JSON object a line; - is standard input")
    parser.add_argument("--lines", type=int, default=0, help="only the first so many data lines were appended")
    parser.add_argument("--source", help="what stands before # in the ids; default: that of the first record")
    parser.add_argument("--sum", type=decimal.Decimal, help="the sum of Quantity × UnitPrice that must come out")
    parser.add_argument("--key-column", default="InvoiceNo")
    parser.add_argument("--time-column", default="InvoiceDate")
    chosen = parser.parse_args()

    header, lines = lines_of(chosen.csv, chosen.lines)
    proof = Proof(
        header, lines, source=chosen.source, key_column=chosen.key_column, time_column=chosen.time_column
    )
    for record in records_of(chosen.records):
        proof.take(record)
    proved = proof.finish(chosen.sum)

    print(f"{proof.records} records in {len(proof.next_offset)} partitions, {len(lines)} lines in the file")
    print(f"{len(proof.last_line)} invoices, sum {proof.total}")
    if proved:
        print("each line once, fields equal, rising per invoice, offsets dense from 0")
        return 0
    print(f"{proof.difference_count} differences, the first:")
    for text in proof.differences:
        print(f"  {text}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
