"""The proof must be able to fail: each way in which a log can go wrong is shown to it."""

import copy
import json
import pathlib
import unittest
import zlib

import verify_lines

FIRST_DAY = pathlib.Path(__file__).parents[1] / "data" / "retail-first-day.csv.zst"
PARTITIONS = 4


class VerifyLines(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.header, cls.lines = verify_lines.lines_of(str(FIRST_DAY), 0)
        ends = [0] * PARTITIONS
        cls.good = []
        for number, line in enumerate(cls.lines, start=1):
            partition = zlib.crc32(line[0].encode()) % PARTITIONS
            cls.good.append({
                "partition": partition,
                "offset": ends[partition],
                "key": line[0],
                "id": f"day.csv#{number}",
                "event_time": line[4].replace(" ", "T") + "Z",
                "value": dict(zip(cls.header, line)),
            })
            ends[partition] += 1

    def check(self, spoil, expected):
        """Spoils a good log and expects a difference whose text has `expected`; None: that it still proves."""
        records = copy.deepcopy(self.good)
        spoil(records)
        proof = verify_lines.Proof(self.header, self.lines)
        for record in records:
            proof.take(record)
        self.assertEqual(proof.finish(), expected is None, proof.differences)
        if expected:
            self.assertTrue(any(expected in text for text in proof.differences), proof.differences)

    def test_a_whole_log_proves(self):
        self.assertEqual(len(self.lines), 3108)
        self.check(lambda records: None, None)

    def test_other_spellings_prove_as_well(self):
        def spoil(records):
            records[0]["value"] = json.dumps(records[0]["value"])
            records[0]["event_time"] = 1_291_191_960_000_000

        self.check(spoil, None)

    def test_a_lost_line_is_found(self):
        self.check(lambda records: records.pop(), "line 3108 is not in the log")

    def test_a_hole_in_the_offsets_is_found(self):
        self.check(lambda records: records.pop(1000), "was due")

    def test_a_line_that_stands_twice_is_found(self):
        def spoil(records):
            again = copy.deepcopy(records[-1])
            again["offset"] += 1
            records.append(again)

        self.check(spoil, "line 3108 a second time")

    def test_an_exact_duplicate_in_place_of_the_other_is_found(self):
        first, second = next(
            (first, second)
            for second, line in enumerate(self.lines)
            for first in [self.lines.index(line)]
            if first != second
        )
        self.check(lambda records: records[second].update(id=records[first]["id"]), f"line {first + 1} a second time")

    def test_lines_of_an_invoice_in_the_wrong_order_are_found(self):
        def spoil(records):
            for field in ("id", "value"):
                records[0][field], records[1][field] = records[1][field], records[0][field]

        self.check(spoil, "line 1 of invoice 536365 after line 2")

    def test_a_changed_field_is_found(self):
        self.check(lambda records: records[5]["value"].update(Quantity="7"), "the sum is")

    def test_a_changed_description_is_found(self):
        self.check(lambda records: records[5]["value"].update(Description="?"), "line 6 reads")

    def test_a_wrong_key_is_found(self):
        self.check(lambda records: records[5].update(key="1"), "has key '1'")

    def test_a_wrong_event_time_is_found(self):
        self.check(lambda records: records[5].update(event_time=None), "has event time None")

    def test_an_invoice_in_two_partitions_is_found(self):
        def spoil(records):
            records[-1].update(partition=PARTITIONS, offset=0)

        self.check(spoil, "as well")

    def test_an_id_of_no_line_is_found(self):
        self.check(lambda records: records[-1].update(id="day.csv#3109"), "is no line of the file")


if __name__ == "__main__":
    unittest.main()
