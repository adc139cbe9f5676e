"""The counts that the saga's description states of the retail file, each held against the mapping of the file.

One function finds them all, from rows and mapping; two tables say what must come out, for the whole file and for the
cut. Left out is the size of events in bytes (p50 1.7, p99 23, largest 117 KB), which is a matter of their encoding.

Some counts hold in one reading only, which is the one that is taken here:

- units of stock up: 57,447 with those of the seven service-code lines, which are ignored: 52,946 are sent;
- orders that repeat a code: 2,793 with service codes (2,779 without), but orders with a code at two prices: 200 without
  service codes (221 with them); the spelling of the codes changes neither;
- lines exactly doubled: copies beyond the first within one order, all eight fields equal;
- lines without customer and empty descriptions are of the whole file, of whatever kind.
"""

import collections
import decimal

import retail_mapping
from retail_mapping import KINDS, ORDER, SERVICE_CODES, STOCK_DOWN, STOCK_UP

GIANTS = {"541431": "C541433", "581483": "C581484"}

WHOLE = {
    "order: invoices": 19_961,
    "order: lines": 530_508,
    "order: pence": 1_064_186_139,
    "stock down: invoices": 1_336,
    "stock down: lines": 1_336,
    "stock down: units": -206_957,
    "stock down: lines with a price or a customer": 0,
    "stock up: invoices": 762,
    "stock up: lines": 772,
    "stock up: units": 57_447,
    "stock up: service-code lines": 7,
    "fee: invoices": 2,
    "fee: pence": 1_376_109,
    "bad debt: invoices": 3,
    "bad debt: pence": -1_106_206,
    "bad debt: negative prices": 2,
    "credit: invoices": 3_836,
    "credit: lines": 9_288,
    "credit: pence": -89_681_249,
    "total: invoices": 25_900,
    "total: lines": 541_909,
    "total: pence": 974_774_793,
    "invoices that another one interrupts": ["542806"],
    "invoices of two minutes": 43,
    "no customer: lines": 135_080,
    "no customer: orders": 1_425,
    "customers without .0": 0,
    "service codes: order lines": 2_316,
    "service codes: orders of nothing else": 176,
    "product codes of orders as written": 3_913,
    "product codes of orders": 3_804,
    "orders that repeat a code": 2_793,
    "orders with a code at two prices": 200,
    "order lines exactly doubled": 5_231,
    "gifts: lines": 407,
    "gifts: orders of 0": 4,
    "lines at 0.001": 4,
    "lines at 0.001 that cost something": 0,
    "empty descriptions": 1_454,
    "customers in several countries": 8,
    "largest order": ["573585", 1_114],
    "giants: units": [74_215, 80_995],
    "giants: minutes until cancelled": [16, 12],
    "requests": 3_807,
    "requests: cancels": 204,
    "requests: returns": 3_603,
    "requests: units": 250_677,
    "requests: pence": 45_052_606,
    "credits that yield requests": 3_069,
    "credits that yield none": 767,
    "credit lines: matched": 7_432,
    "credit lines: cut": 51,
    "credit lines: nothing bought": 1_056,
    "credit lines: guest": 165,
    "credit lines: service": 366,
    "credit lines: guest service": 218,
    "stock changes": 2_101,
    "opening stock: units": 5_318_574,
}

CUT = {
    "total: invoices": 2_219,
    "total: lines": 51_836,
    "order: invoices": 1_738,
    "bad debt: invoices": 3,
    "requests": 370,
    "requests: cancels": 24,
    "giants: units": [74_215, 80_995],
    "giants: minutes until cancelled": [16, 12],
}

TABLES = {"whole": WHOLE, "cut": CUT}


def report(table, rows):
    """Prints each count of the table; the exit code is 1 if one is another."""
    found = counts_of(rows, retail_mapping.mapping_of(rows))
    wrong = 0
    for name, expected in TABLES[table].items():
        is_equal = found[name] == expected
        wrong += not is_equal
        print(f"{'ok   ' if is_equal else 'WRONG'} {name}: {shown(found[name])}"
              + ("" if is_equal else f", {shown(expected)} expected"))
    print(f"{len(TABLES[table])} counts, {wrong} wrong")
    return 1 if wrong else 0


def shown(count):
    return f"{count:,}" if isinstance(count, int) else str(count)


def counts_of(rows, mapping):
    """All counts by name."""
    kinds = {invoice.id: invoice.kind for invoice in mapping.invoices}
    order_rows = [row for row in rows if kinds[row[0]] == ORDER]
    return {
        **counts_by_kind(mapping),
        **counts_of_layout(rows),
        **counts_of_dirt(rows, order_rows),
        **counts_of_orders(order_rows, mapping),
        **counts_of_credits(mapping),
        "stock changes": sum(len(invoice.products) for kind in (STOCK_DOWN, STOCK_UP) for invoice in mapping.of(kind)),
        "opening stock: units": sum(mapping.opening().values()),
    }


def counts_by_kind(mapping):
    counts = collections.Counter()
    for kind in KINDS:
        for invoice in mapping.of(kind):
            for name in (kind, "total"):
                counts[f"{name}: invoices"] += 1
                counts[f"{name}: lines"] += len(invoice.lines)
                counts[f"{name}: pence"] += invoice.amount_pence
                counts[f"{name}: units"] += sum(line.units for line in invoice.lines)
            counts[f"{kind}: service-code lines"] += len(invoice.services)
            counts[f"{kind}: negative prices"] += sum(line.price < 0 for line in invoice.lines)
            counts[f"{kind}: lines with a price or a customer"] += sum(
                line.price != 0 or invoice.customer != "" for line in invoice.lines
            )
    return counts


def counts_of_layout(rows):
    first, last, lines, times = {}, {}, collections.Counter(), collections.defaultdict(set)
    for number, row in enumerate(rows):
        first.setdefault(row[0], number)
        last[row[0]] = number
        lines[row[0]] += 1
        times[row[0]].add(row[4])
    return {
        "invoices that another one interrupts": [
            invoice for invoice in first if last[invoice] - first[invoice] + 1 != lines[invoice]
        ],
        "invoices of two minutes": sum(len(of_invoice) == 2 for of_invoice in times.values()),
    }


def counts_of_dirt(rows, order_rows):
    countries = collections.defaultdict(set)
    for _, _, _, _, _, _, customer, country in rows:
        if customer:
            countries[customer].add(country)
    products = {row[1] for row in order_rows if row[1].upper() not in SERVICE_CODES}
    small = [row for row in rows if decimal.Decimal(row[5]) == decimal.Decimal("0.001")]
    return {
        "no customer: lines": sum(not row[6] for row in rows),
        "customers without .0": sum(row[6] != "" and not row[6].endswith(".0") for row in rows),
        "product codes of orders as written": len(products),
        "product codes of orders": len({code.upper() for code in products}),
        "lines at 0.001": len(small),
        "lines at 0.001 that cost something": sum(
            retail_mapping.pence(int(row[3]), decimal.Decimal(row[5])) != 0 for row in small
        ),
        "empty descriptions": sum(not row[2].strip() for row in rows),
        "customers in several countries": sum(len(of_customer) > 1 for of_customer in countries.values()),
    }


def counts_of_orders(order_rows, mapping):
    orders = mapping.of(ORDER)
    copies = collections.Counter(tuple(row) for row in order_rows)
    largest = max(orders, key=lambda order: len(order.lines))
    return {
        "no customer: orders": sum(not order.customer for order in orders),
        "service codes: order lines": sum(len(order.services) for order in orders),
        "service codes: orders of nothing else": sum(not order.products for order in orders),
        "orders that repeat a code": sum(
            len({line.code for line in order.lines}) < len(order.lines) for order in orders
        ),
        "orders with a code at two prices": sum(
            len({(line.code, line.price) for line in order.products}) > len({line.code for line in order.products})
            for order in orders
        ),
        "order lines exactly doubled": sum(count - 1 for count in copies.values()),
        "gifts: lines": sum(line.price == 0 for order in orders for line in order.lines),
        "gifts: orders of 0": sum(order.amount_pence == 0 for order in orders),
        "largest order": [largest.id, len(largest.lines)],
        "giants: units": [line.units for order in orders if order.id in GIANTS for line in order.lines],
    }


def counts_of_credits(mapping):
    invoices = {invoice.id: invoice for invoice in mapping.invoices}
    requests = mapping.all_requests()
    pence = 0
    for request in requests:
        prices = {line.number: line.price for line in invoices[request.order].lines}
        pence += sum(retail_mapping.pence(units, prices[number]) for number, units in request.units.items())
    yielding = sum(bool(of_credit) for of_credit in mapping.requests.values())
    delays = {(request.order, request.id): invoices[request.id].time - invoices[request.order].time
              for request in requests}
    return {
        "requests": len(requests),
        "requests: cancels": sum(request.is_cancel for request in requests),
        "requests: returns": sum(not request.is_cancel for request in requests),
        "requests: units": sum(sum(request.units.values()) for request in requests),
        "requests: pence": pence,
        "credits that yield requests": yielding,
        "credits that yield none": len(mapping.requests) - yielding,
        "giants: minutes until cancelled": [
            delays[pair].total_seconds() / 60 for pair in GIANTS.items() if pair in delays
        ],
        **{f"credit lines: {how}": mapping.credit_lines[how] for how in (
            retail_mapping.MATCHED, retail_mapping.CUT, retail_mapping.NOTHING_BOUGHT, retail_mapping.GUEST,
            retail_mapping.SERVICE, retail_mapping.GUEST_SERVICE)},
    }
