"""What the order saga makes of a retail file when each invoice runs to its end before the next.

The judge of `tillroll demo --sequential`: written from the saga's description alone, with no code of the project. The
gateway accepts everything, nothing is late, nothing is placed twice. `retail_mapping` says what is asked; its numbered
readings go on here:

11. The opening stock is there before the first invoice; then the invoices run in the order of their first lines.
12. An order's product lines are tried in line order, each whole or short: a line that is not there whole takes nothing,
    and a later line of the same code may still fit. Gifts (price 0) are lines like others.
13. What is reserved is confirmed and ships. Service lines are charged with the confirmation, and an order that has
    nothing but service lines counts as whole. An order with product lines and none reserved is cancelled, and its
    service lines are not charged.
14. A request finds its order decided, so a cancel is carried out as a return. Each line is cut to what was shipped of
    it and has not come back; a request that has no unit left is refused, as is every request to a cancelled order. A
    return is whole if every unit asked is accepted, and partial otherwise.
15. The refund of a line is a(units kept before) - a(units kept after), with a(n) the amount of n units at the price
    bought, so that a line that comes back whole refunds what was captured for it.
16. Accepted units are free stock at once.
17. A decrease takes what is free and no more. `units_left` is the stock on hand at the end, over all codes.

    saga_model.py --csv retail.csv.zst [-o json] [--trace trace.jsonl] [--against demo.json]
    saga_model.py --csv retail.csv.zst --check-counts
    saga_model.py --csv retail.csv.zst --cut cut.csv.zst
"""

import argparse
import collections
import json
import sys

import retail_counts
import retail_cut
import retail_mapping
from retail_mapping import CREDIT, ORDER, STOCK_DOWN, STOCK_UP, pence

WHOLE, PARTIAL, CANCELLED, REFUSED = "whole", "partial", "cancelled", "refused"
JUDGED = ("orders", "captured_pence", "refunded_pence", "returns", "units_left")


class Order:
    """An order that was decided: what shipped and what came back, in units by line number."""

    def __init__(self, invoice):
        self.lines = {line.number: line for line in invoice.lines}
        self.short = []
        self.shipped = collections.Counter()
        self.returned = collections.Counter()
        self.outcome = None
        self.captured_pence = self.refunded_pence = 0

    def kept(self, number):
        return self.shipped[number] - self.returned[number]


class Saga:
    """The state of all services at once. `trace` gets one object for each thing that happened."""

    def __init__(self, opening, trace=None):
        self.opening = opening
        self.free = collections.Counter(opening)
        self.orders = {}
        self.returns = collections.Counter()
        self.units = collections.Counter(opening=sum(opening.values()))
        self.lines = collections.Counter()
        self.changes = self.decreases_cut = 0
        self.trace = trace if trace is not None else []

    def run(self, mapping):
        for invoice in mapping.invoices:
            if invoice.kind == ORDER:
                self.place(invoice)
            elif invoice.kind in (STOCK_DOWN, STOCK_UP):
                for line in invoice.products:
                    self.change(invoice.id, line)
            elif invoice.kind == CREDIT:
                for request in mapping.requests[invoice.id]:
                    self.give_back(request)

    def place(self, invoice):
        order = self.orders[invoice.id] = Order(invoice)
        for line in invoice.products:
            self.units["ordered"] += line.units
            if line.units <= self.free[line.code]:
                self.free[line.code] -= line.units
                order.shipped[line.number] = line.units
            else:
                order.short.append(line.number)
        if order.short and not order.shipped:
            order.outcome = CANCELLED
        else:
            order.outcome = PARTIAL if order.short else WHOLE
            charged = [line for line in invoice.lines if line.is_service or line.number in order.shipped]
            order.captured_pence = sum(line.amount_pence for line in charged)
            self.lines["services_charged"] += len(charged) - len(order.shipped)
        self.units["shipped"] += order.shipped.total()
        self.lines["shipped"] += len(order.shipped)
        self.lines["short"] += len(order.short)

    def change(self, invoice, line):
        applied = max(line.units, -self.free[line.code])
        self.free[line.code] += applied
        self.changes += 1
        self.decreases_cut += applied != line.units
        if line.units > 0:
            self.units["increased"] += applied
        else:
            self.units["decrease_asked"] -= line.units
            self.units["decreased"] -= applied
        self.trace.append({
            "stock_change": invoice, "line": line.number, "code": line.code, "asked": line.units, "applied": applied,
        })

    def give_back(self, request):
        order = self.orders[request.order]
        accepted, refund_pence = {}, 0
        for number, asked in sorted(request.units.items()):
            line, before = order.lines[number], order.kept(number)
            units = min(asked, before)
            if units:
                accepted[number] = units
                order.returned[number] += units
                refund_pence += pence(before, line.price) - pence(before - units, line.price)
                self.free[line.code] += units
        order.refunded_pence += refund_pence
        answer = REFUSED if not accepted else WHOLE if accepted == request.units else PARTIAL
        self.returns[answer] += 1
        self.units["return_asked"] += sum(request.units.values())
        self.units["returned"] += sum(accepted.values())
        self.trace.append({
            "request": request.id, "order": request.order, "kind": "cancel" if request.is_cancel else "return",
            "answer": answer, "asked": dict(sorted(request.units.items())), "accepted": accepted,
            "refunded_pence": refund_pence,
        })

    def finish(self):
        """What happened to each order and code goes to the trace; the sums must agree with each other."""
        for order_id, order in self.orders.items():
            self.trace.append({
                "order": order_id, "outcome": order.outcome, "captured_pence": order.captured_pence,
                "refunded_pence": order.refunded_pence, "shipped": order.shipped.total(),
                "returned": order.returned.total(), "short": order.short,
            })
        for code in sorted(self.free):
            self.trace.append({"code": code, "opening": self.opening.get(code, 0), "left": self.free[code]})
        for fault in self.faults():
            raise ArithmeticError(f"the model contradicts itself: {fault}")

    def faults(self):
        units = self.units
        on_hand = units["opening"] + units["increased"] - units["decreased"] - units["shipped"] + units["returned"]
        if self.free.total() != on_hand:
            yield f"{self.free.total()} units are left, {on_hand} should be"
        for code, left in self.free.items():
            if left < 0:
                yield f"code {code} has {left} units"
        for order_id, order in self.orders.items():
            kept = sum(pence(order.kept(number), order.lines[number].price) for number in order.shipped)
            services = [line.amount_pence for line in order.lines.values() if line.is_service]
            due = 0 if order.outcome == CANCELLED else kept + sum(services)
            if order.captured_pence - order.refunded_pence != due:
                yield f"order {order_id} paid {order.captured_pence} - {order.refunded_pence}, not {due}"

    def result(self, mapping):
        outcomes = collections.Counter(order.outcome for order in self.orders.values())
        requests = mapping.all_requests()
        unsent_units = collections.Counter()
        for unsent in mapping.unsent:
            unsent_units[unsent.why] += unsent.units
        return {
            "orders": {outcome: outcomes[outcome] for outcome in (WHOLE, PARTIAL, CANCELLED)},
            "captured_pence": sum(order.captured_pence for order in self.orders.values()),
            "refunded_pence": sum(order.refunded_pence for order in self.orders.values()),
            "returns": {answer: self.returns[answer] for answer in (WHOLE, PARTIAL, REFUSED)},
            "units_left": self.free.total(),
            "placed_pence": sum(order.amount_pence for order in mapping.of(ORDER)),
            "requests": {
                "cancel": sum(request.is_cancel for request in requests),
                "return": sum(not request.is_cancel for request in requests),
            },
            "stock_changes": {"all": self.changes, "cut": self.decreases_cut},
            "units": dict(self.units),
            "lines": dict(self.lines),
            "orders_captured_0": sum(
                order.captured_pence == 0 and order.outcome != CANCELLED for order in self.orders.values()
            ),
            "credit_lines": dict(mapping.credit_lines),
            "unsent_units": dict(unsent_units),
        }


def run(rows):
    """The result of a file's rows, and the trace."""
    mapping = retail_mapping.mapping_of(rows)
    trace = [
        {"unsent": unsent.credit, "line": unsent.line, "why": unsent.why, "units": unsent.units}
        for unsent in mapping.unsent
    ]
    saga = Saga(mapping.opening(), trace)
    saga.run(mapping)
    saga.finish()
    return saga.result(mapping), trace


def differences(result, other):
    """Where another result, such as the demo's, is not this one: only what both must state is looked at."""
    return [
        f"{name} is {json.dumps(other.get(name))}, the model has {json.dumps(result[name])}"
        for name in JUDGED
        if other.get(name) != result[name]
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", required=True, help="the retail file, plain or .zst")
    parser.add_argument("-o", "--output", choices=["json"], default="json", help="one JSON object")
    parser.add_argument("--trace", help="a file for one JSON object a line: requests, stock changes, orders, codes")
    parser.add_argument("--against", help="what the demo printed with -o json, to be compared; - is standard input")
    parser.add_argument("--check-counts", nargs="?", const="whole", choices=["whole", "cut"],
                        help="no run: hold the known counts of the whole file, or of the cut, against the mapping")
    parser.add_argument("--cut", help="no run: write the cut of the file here (.zst) and check its counts")
    chosen = parser.parse_args()

    if chosen.cut:
        retail_cut.write(chosen.csv, chosen.cut)
        return retail_counts.report("cut", retail_mapping.rows_of(chosen.cut))
    rows = retail_mapping.rows_of(chosen.csv)
    if chosen.check_counts:
        return retail_counts.report(chosen.check_counts, rows)

    result, trace = run(rows)
    if chosen.trace:
        with open(chosen.trace, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(event) + "\n" for event in trace)
    print(json.dumps(result))
    if not chosen.against:
        return 0
    with sys.stdin if chosen.against == "-" else open(chosen.against, encoding="utf-8") as file:
        found = differences(result, json.load(file))
    for difference in found:
        print(difference, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
