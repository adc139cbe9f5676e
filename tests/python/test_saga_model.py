"""Small shops whose books can be kept in the head, and the shipped cut; the whole file is for `--check-counts`."""

import contextlib
import decimal
import io
import json
import pathlib
import tempfile
import unittest
import unittest.mock

import retail_counts
import retail_cut
import retail_mapping
import saga_model
import verify_lines

CUT = pathlib.Path(__file__).parents[2] / "client" / "data" / "retail-saga-cut.csv.zst"


def row(invoice, code, units, price="1.0", customer="1.0", time="10:00", description="THING", country="France"):
    return (invoice, code, description, str(units), f"2011-01-01 {time}:00", price, customer, country)


def requests_of(*rows):
    """Credit, order, kind and units of each request."""
    return [
        (request.id, request.order, "cancel" if request.is_cancel else "return", request.units)
        for request in retail_mapping.mapping_of(rows).all_requests()
    ]


def kinds_of(*rows):
    return {invoice.id: invoice.kind for invoice in retail_mapping.mapping_of(rows).invoices}


def run(*rows, opening=None):
    """The saga after these rows; `opening` takes the place of the stock that they would be given."""
    mapping = retail_mapping.mapping_of(rows)
    saga = saga_model.Saga(mapping.opening() if opening is None else opening)
    saga.run(mapping)
    saga.finish()
    return saga


def answers_of(saga):
    return [(event["answer"], event["accepted"], event["refunded_pence"]) for event in saga.trace if "request" in event]


def money_of(saga, order):
    return saga.orders[order].captured_pence, saga.orders[order].refunded_pence


class Amounts(unittest.TestCase):
    def test_half_a_penny_is_rounded_up(self):
        price = decimal.Decimal
        self.assertEqual(retail_mapping.pence(1, price("0.005")), 1)
        self.assertEqual(retail_mapping.pence(1, price("0.004")), 0)
        self.assertEqual(retail_mapping.pence(5, price("0.001")), 1)
        self.assertEqual(retail_mapping.pence(3, price("1.15")), 345)
        self.assertEqual(retail_mapping.pence(80_995, price("2.08")), 16_846_960)

    def test_a_price_is_decimal_or_refused(self):
        for price in ("1e3", "NaN", "", "1,5", "0x1"):
            with self.assertRaises(ValueError):
                kinds_of(row("1", "A", 1, price))


class Kinds(unittest.TestCase):
    def test_each_kind_is_told_apart(self):
        self.assertEqual(
            kinds_of(
                row("1", "10001", 1),
                row("2", "10001", 1, "0.0"),
                row("3", "10001", -1, "0.0", ""),
                row("4", "10001", 1, "0.0", ""),
                row("5", "amazonfee", 1, "9.0", ""),
                row("6", "AMAZONFEE", 1, "9.0", ""),
                row("6", "10001", 1, "0.0", ""),
                row("A7", "B", 1, "-9.0", ""),
                row("C8", "10001", -1),
                row("9", "10001", 1, "0.0", ""),
                row("9", "10002", 1, "0.1", ""),
            ),
            {"1": "order", "2": "order", "3": "stock down", "4": "stock up", "5": "fee", "6": "order",
             "A7": "bad debt", "C8": "credit", "9": "order"},
        )

    def test_what_has_no_meaning_is_refused(self):
        for bad in (
            row("1", "10001", 0), row("1", "10001", 1, "-1.0"), row("1", "10001", -1, "1.0"), row("C1", "10001", 1),
            row("X1", "10001", 1),
        ):
            with self.assertRaises(ValueError):
                kinds_of(bad)
        with self.assertRaises(ValueError):
            kinds_of(row("1", "10001", 1), row("1", "10001", 1, customer="2.0"))

    def test_an_interrupted_invoice_is_one(self):
        invoices = retail_mapping.mapping_of(
            [row("1", "a", 1), row("2", "k", 1), row("1", "post", 1)]
        ).invoices
        self.assertEqual([invoice.id for invoice in invoices], ["1", "2"])
        self.assertEqual([(line.number, line.code) for line in invoices[0].lines], [(1, "A"), (2, "POST")])
        self.assertEqual(invoices[0].customer, "1")

    def test_opening_stock_is_rounded_up_and_never_less_than_the_largest_line(self):
        mapping = retail_mapping.mapping_of([
            row("1", "a", 10), row("2", "A", 11), row("3", "k", 7), row("4", "POST", 5), row("5", "c", 9, "0.0", ""),
        ])
        self.assertEqual(mapping.opening(), {"A": 20, "K": 7})


class Requests(unittest.TestCase):
    def test_the_same_price_goes_before_the_latest_order(self):
        orders = row("1", "a", 5, "2.0"), row("2", "a", 5, "2.0"), row("3", "a", 5, "3.0")
        self.assertEqual(requests_of(*orders, row("C4", "A", -2, "2.00")), [("C4", "2", "cancel", {1: 2})])
        self.assertEqual(
            requests_of(*orders, row("C4", "a", -12, "2.0")),
            [("C4", "2", "cancel", {1: 5}), ("C4", "1", "cancel", {1: 5}), ("C4", "3", "cancel", {1: 2})],
        )
        self.assertEqual(requests_of(*orders, row("C4", "a", -1, "9.0")), [("C4", "3", "cancel", {1: 1})])

    def test_within_an_order_the_first_line_comes_first_but_the_same_price_before_it(self):
        lines = row("1", "a", 2, "3.0"), row("1", "a", 2, "2.0"), row("1", "a", 2, "2.0")
        self.assertEqual(requests_of(*lines, row("C2", "a", -3, "2.0")), [("C2", "1", "cancel", {2: 2, 3: 1})])
        self.assertEqual(requests_of(*lines, row("C2", "a", -5, "2.0")), [("C2", "1", "cancel", {2: 2, 3: 2, 1: 1})])

    def test_units_are_credited_once_and_the_rest_is_counted(self):
        rows = (
            row("1", "a", 3), row("C2", "a", -2), row("C3", "a", -2), row("C4", "a", -1),
            row("C5", "post", -1), row("C6", "a", -1, customer=""), row("C7", "M", -1, customer=""),
            row("C8", "a", -1, customer="2.0"), row("C9", "k", -1), row("9", "k", 1),
        )
        mapping = retail_mapping.mapping_of(rows)
        self.assertEqual(requests_of(*rows), [("C2", "1", "cancel", {1: 2}), ("C3", "1", "cancel", {1: 1})])
        self.assertEqual(
            mapping.credit_lines,
            {"matched": 1, "cut": 1, "nothing bought": 3, "service": 1, "guest": 1, "guest service": 1},
        )
        self.assertEqual([(unsent.credit, unsent.units) for unsent in mapping.unsent],
                         [("C3", 1), ("C4", 1), ("C5", 1), ("C6", 1), ("C7", 1), ("C8", 1), ("C9", 1)])

    def test_lines_of_a_credit_that_meet_are_one_request(self):
        self.assertEqual(
            requests_of(row("1", "a", 3), row("1", "k", 3), row("C2", "a", -1), row("C2", "k", -1), row("C2", "a", -1)),
            [("C2", "1", "cancel", {1: 2, 2: 1})],
        )

    def test_an_hour_is_still_a_cancel(self):
        order = row("1", "a", 3, time="10:00")
        self.assertEqual(requests_of(order, row("C2", "a", -1, time="11:00"))[0][2], "cancel")
        self.assertEqual(requests_of(order, row("C2", "a", -1, time="11:01"))[0][2], "return")

    def test_guests_stock_and_fees_are_not_what_a_customer_bought(self):
        self.assertEqual(
            requests_of(row("1", "a", 3, customer=""), row("2", "a", 3, "0.0", ""), row("C3", "a", -1, customer="")), []
        )


class Run(unittest.TestCase):
    def test_lines_are_whole_or_short_one_by_one(self):
        saga = run(row("1", "a", 3), row("1", "a", 4), row("1", "a", 2), row("1", "POST", 1, "5.0"), opening={"A": 6})
        self.assertEqual(saga.orders["1"].shipped, {1: 3, 3: 2})
        self.assertEqual((saga.orders["1"].outcome, saga.orders["1"].short), ("partial", [2]))
        self.assertEqual((money_of(saga, "1"), saga.free["A"]), ((1_000, 0), 1))

    def test_nothing_reserved_cancels_and_nothing_to_reserve_does_not(self):
        saga = run(
            row("1", "a", 3), row("1", "POST", 1), row("2", "POST", 2, "1.5"), row("3", "k", 1, "0.0"), opening={"K": 1}
        )
        self.assertEqual({order_id: order.outcome for order_id, order in saga.orders.items()},
                         {"1": "cancelled", "2": "whole", "3": "whole"})
        self.assertEqual([money_of(saga, order) for order in "123"], [(0, 0), (300, 0), (0, 0)])
        self.assertEqual(saga.free.total(), 0)

    def test_a_decrease_takes_free_stock_only(self):
        saga = run(
            row("1", "a", 3), row("2", "a", -5, "0.0", ""), row("3", "a", 2, "0.0", ""), row("3", "DOT", 9, "0.0", ""),
            row("4", "x", -1, "0.0", ""), row("5", "a", 3), opening={"A": 4},
        )
        self.assertEqual([event["applied"] for event in saga.trace if "stock_change" in event], [-1, 2, 0])
        self.assertEqual((saga.changes, saga.decreases_cut), (3, 2))
        self.assertEqual((saga.orders["5"].outcome, saga.free["A"], saga.free["DOT"]), ("cancelled", 2, 0))

    def test_a_return_is_cut_to_what_shipped_and_refused_if_nothing_is_left(self):
        saga = run(
            row("1", "a", 3), row("1", "k", 2), row("C2", "a", -2), row("C2", "k", -2), row("C3", "a", -1),
            row("4", "k", 5), row("C5", "k", -5), opening={"A": 3, "K": 1},
        )
        self.assertEqual(answers_of(saga), [("partial", {1: 2}, 200), ("whole", {1: 1}, 100), ("refused", {}, 0)])
        self.assertEqual((money_of(saga, "1"), saga.free), ((300, 300), {"A": 3, "K": 1}))

    def test_units_that_came_back_do_not_come_back_again(self):
        # The file asks for each unit once; a request that does not must not be believed.
        saga = run(row("1", "a", 3), row("C2", "a", -2))
        saga.give_back(retail_mapping.Request("C3", "1", False, {1: 2}))
        saga.give_back(retail_mapping.Request("C4", "1", False, {1: 1}))
        self.assertEqual(answers_of(saga), [("whole", {1: 2}, 200), ("partial", {1: 1}, 100), ("refused", {}, 0)])

    def test_returned_units_are_sold_again(self):
        saga = run(row("1", "a", 3), row("C2", "a", -3), row("3", "a", 3, customer="2.0"), opening={"A": 3})
        self.assertEqual(saga.orders["3"].outcome, "whole")

    def test_parts_refund_to_the_penny_what_the_whole_has_cost(self):
        # 3 units at 0.005 cost 2 p (1.5); kept 2: 1 p, kept 1: 1 p (0.5), kept 0: nothing.
        order = row("1", "a", 3, "0.005")
        saga = run(order, *(row(f"C{number}", "a", -1, "0.005") for number in (2, 3, 4)))
        self.assertEqual([refund for _, _, refund in answers_of(saga)], [1, 0, 1])
        self.assertEqual(money_of(saga, "1"), (2, 2))

    def test_the_refund_is_at_the_price_bought(self):
        saga = run(row("1", "a", 2, "3.0"), row("C2", "a", -1, "2.5"))
        self.assertEqual(answers_of(saga), [("whole", {1: 1}, 300)])


class Judge(unittest.TestCase):
    def test_other_results_are_told_apart_by_name(self):
        result, _ = saga_model.run([row("1", "a", 2), row("C2", "a", -1)])
        self.assertEqual(saga_model.differences(result, {**result, "injected": 7}), [])
        self.assertEqual(
            saga_model.differences(result, {**result, "refunded_pence": 101}),
            ["refunded_pence is 101, the model has 100"],
        )
        without = {name: of_name for name, of_name in result.items() if name != "returns"}
        self.assertIn("returns is null", saga_model.differences(result, without)[0])

    def test_a_model_that_contradicts_itself_says_so(self):
        for spoil, expected in (
            (lambda saga: saga.free.update(A=1), "1 units are left"),
            (lambda saga: setattr(saga.orders["1"], "captured_pence", 301), "order 1 paid 301"),
            (lambda saga: saga.free.update(A=-1, K=1), "code A has -1"),
        ):
            mapping = retail_mapping.mapping_of([row("1", "a", 3)])
            saga = saga_model.Saga(mapping.opening())
            saga.run(mapping)
            spoil(saga)
            with self.assertRaisesRegex(ArithmeticError, expected):
                saga.finish()

    def test_a_wrong_count_is_named(self):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            self.assertEqual(retail_counts.report("cut", [row("1", "a", 3), row("A1", "B", 1)]), 1)
        self.assertIn("WRONG total: invoices: 2, 2,219 expected", printed.getvalue())


class ShippedCut(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rows = retail_mapping.rows_of(str(CUT))

    def test_its_counts_are_those_that_are_stated(self):
        counts = retail_counts.counts_of(self.rows, retail_mapping.mapping_of(self.rows))
        self.assertEqual({name: counts[name] for name in retail_counts.CUT}, retail_counts.CUT)

    def test_the_saga_makes_this_of_it(self):
        result, trace = saga_model.run(self.rows)
        self.assertEqual(result["orders"], {"whole": 1_078, "partial": 639, "cancelled": 21})
        self.assertEqual(result["captured_pence"], 125_146_049)
        self.assertEqual(result["refunded_pence"], 25_855_882)
        self.assertEqual(result["returns"], {"whole": 345, "partial": 13, "refused": 12})
        self.assertEqual(result["units_left"], 207_513)
        orders = [event for event in trace if "order" in event and "outcome" in event]
        self.assertEqual(len(orders), 1_738)
        self.assertEqual(sum(order["captured_pence"] for order in orders), result["captured_pence"])
        self.assertEqual(sum(event["left"] for event in trace if "left" in event), result["units_left"])

    def test_a_cut_of_the_cut_is_the_cut(self):
        with tempfile.TemporaryDirectory() as folder:
            again = str(pathlib.Path(folder) / "again.csv.zst")
            retail_cut.write(str(CUT), again)
            with verify_lines.opened(str(CUT)) as text, verify_lines.opened(again) as text_again:
                self.assertEqual(text.read(), text_again.read())

    def test_lines_outside_the_cut_are_left_out_and_quoting_stays(self):
        with tempfile.TemporaryDirectory() as folder:
            source, target = (str(pathlib.Path(folder) / name) for name in ("whole.csv", "cut.csv.zst"))
            head = ",".join(retail_mapping.COLUMNS) + "\n"
            kept = (
                '536401,1,"A , B",1,2011-01-01 10:00:00,1.0,16.0,France\n'
                '536406,1,"C ""D""",1,2011-01-01 10:00:00,1.0,,France\n'
                'C536426,1,,-1,2011-01-01 10:00:00,1.0,,France\n'
                'A1,B,,1,2011-01-01 10:00:00,1.0,,France\n'
            )
            dropped = (
                '536406,1,,1,2011-01-01 10:00:00,1.0,17.0,France\n'
                '536416,1,,1,2011-01-01 10:00:00,1.0,,France\n'
            )
            pathlib.Path(source).write_text(head + dropped + kept, encoding="utf-8")
            retail_cut.write(source, target)
            with verify_lines.opened(target) as text:
                self.assertEqual(text.read(), head + kept)

    def test_the_command_prints_one_object_and_judges_another(self):
        with tempfile.TemporaryDirectory() as folder:
            demo = pathlib.Path(folder) / "demo.json"
            trace = pathlib.Path(folder) / "trace.jsonl"
            printed = self.command("--trace", str(trace), expected=0)
            demo.write_text(printed, encoding="utf-8")
            self.command("--against", str(demo), expected=0)
            demo.write_text(json.dumps({**json.loads(printed), "units_left": 0}), encoding="utf-8")
            self.command("--against", str(demo), expected=1)
            events = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
            self.assertEqual(sum("request" in event for event in events), 370)

    def command(self, *words, expected):
        with unittest.mock.patch("sys.argv", ["saga_model.py", "--csv", str(CUT), "-o", "json", *words]):
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                self.assertEqual(saga_model.main(), expected)
        self.assertEqual("units_left is 0" in err.getvalue(), expected == 1)
        return out.getvalue()


if __name__ == "__main__":
    unittest.main()
