"""What the order saga is asked to do by a file of "Online Retail": orders, stock changes, requests, opening stock.

Independent of the project's own code. Units are integers, prices decimal, amounts integer pence; nothing is a float.
Nothing is run here: `saga_model` does that, and `retail_counts` holds the known counts of the file against it.

The file is read as written. Where its description leaves a choice, this is the reading:

1.  An invoice stands where its first line stands, and its time is that line's, also when another invoice interrupts it
    or it spans two minutes. "Earlier" means standing earlier; two invoices of one minute are told apart by the file's
    order. (By time alone, purchases of the credit's own minute would be lost: 197 cancels, 3,609 returns.)
2.  Lines are numbered from 1 within their invoice, in the file's order, service lines included. A code is upper-cased
    before it is compared with anything; a customer loses a `.0` at the end.
3.  The kinds are tried in the order credit (`C…`), bad debt (`A…`), stock down, stock up, marketplace fee, order; "only
    AMAZONFEE" means that every line has that code.
4.  A stock change is one line of a stock invoice with a product code: 1,336 down and 772 - 7 up are the 2,101. The
    +57,447 units of the table include the 4,501 of the seven service-code lines; 52,946 are sent.
5.  A line of a credit looks at all lines of earlier orders of its customer with its code that have units not yet
    credited: those at its own price (decimal equality) first, then all others; within both the latest order first, and
    within an order the line with the lower number first. It takes what is there and goes on with the next.
6.  "Not yet credited" counts what earlier lines of credits took here, in the file's order, whether or not the saga
    later accepts it: the requests follow from the file alone.
7.  All that one credit takes from one order is one request, with the credit's invoice number as its id; two lines of
    the credit that take from the same order line are added up. Requests of one credit are made in the order in which
    its lines first touch the orders; nothing depends on it.
8.  Within an hour: credit's time - order's time <= 60 minutes. (One request has exactly 60; "less than" makes it 203.)
9.  A credit line is "matched" if all its units were taken, "cut" if some were, "nothing bought" if none were.
10. Half up is by distance (-0.5 p would be -1 p); no amount of the file lies on a negative half.
"""

import collections
import dataclasses
import datetime
import decimal
import re

import verify_lines

COLUMNS = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"]
SERVICE_CODES = frozenset(["POST", "DOT", "C2", "M", "D", "S", "B", "BANK CHARGES", "AMAZONFEE", "CRUK"])
FEE_CODE = "AMAZONFEE"
CANCEL_WITHIN = datetime.timedelta(hours=1)
OPENING_PERCENT = 95

ORDER, STOCK_DOWN, STOCK_UP, FEE, BAD_DEBT, CREDIT = "order", "stock down", "stock up", "fee", "bad debt", "credit"
KINDS = (ORDER, STOCK_DOWN, STOCK_UP, FEE, BAD_DEBT, CREDIT)
MATCHED, CUT, NOTHING_BOUGHT, GUEST = "matched", "cut", "nothing bought", "guest"
SERVICE, GUEST_SERVICE = "service", "guest service"

PRICE = re.compile(r"-?\d{1,12}(\.\d{1,6})?")


def pence(units, price):
    """Units × pounds, rounded half up to pence."""
    return int((units * price * 100).quantize(decimal.Decimal(1), decimal.ROUND_HALF_UP))


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line of an invoice. Its identity is the invoice and `number`, never the code."""

    number: int
    code: str
    units: int
    price: decimal.Decimal

    @property
    def is_service(self):
        return self.code in SERVICE_CODES

    @property
    def amount_pence(self):
        return pence(self.units, self.price)


@dataclasses.dataclass(slots=True)
class Invoice:
    id: str
    time: datetime.datetime
    customer: str
    lines: list
    kind: str = ""

    @property
    def products(self):
        return [line for line in self.lines if not line.is_service]

    @property
    def services(self):
        return [line for line in self.lines if line.is_service]

    @property
    def amount_pence(self):
        return sum(line.amount_pence for line in self.lines)


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What one credit asks of one order: units by the order's line number."""

    id: str
    order: str
    is_cancel: bool
    units: dict


@dataclasses.dataclass(frozen=True, slots=True)
class Unsent:
    """A line of a credit, and how many of its units no request asks for."""

    credit: str
    line: int
    why: str
    units: int


@dataclasses.dataclass(slots=True)
class Mapping:
    """`invoices` stand in the order of their first lines; `requests` are by the credit that makes them."""

    invoices: list
    requests: dict
    credit_lines: collections.Counter
    unsent: list

    def of(self, kind):
        return [invoice for invoice in self.invoices if invoice.kind == kind]

    def opening(self):
        return opening_stock(self.of(ORDER))

    def all_requests(self):
        return [request for requests in self.requests.values() for request in requests]


def mapping_of(rows):
    """The mapping of data rows, each the fields by `COLUMNS`."""
    invoices = invoices_of(rows)
    for invoice in invoices:
        invoice.kind = kind_of(invoice)
        check_signs(invoice)
    return Credits(invoices).mapping()


def rows_of(path):
    """The data rows of a file, plain or .zst."""
    header, rows = verify_lines.lines_of(path, 0)
    if header != COLUMNS:
        raise ValueError(f"{path}: the columns are {header}, not {COLUMNS}")
    return rows


def invoices_of(rows):
    """The invoices in the order of their first lines."""
    invoices = {}
    for number, (invoice_id, code, _, units, time, price, customer, _) in enumerate(rows, start=1):
        if not PRICE.fullmatch(price):
            raise ValueError(f"data line {number}: the price is {price!r}")
        customer = customer.removesuffix(".0")
        invoice = invoices.get(invoice_id)
        if invoice is None:
            invoice = Invoice(invoice_id, datetime.datetime.fromisoformat(time), customer, [])
            invoices[invoice_id] = invoice
        if customer != invoice.customer:
            raise ValueError(f"data line {number}: invoice {invoice_id} has a second customer, {customer!r}")
        line = Line(len(invoice.lines) + 1, code.upper(), int(units), decimal.Decimal(price))
        invoice.lines.append(line)
    return list(invoices.values())


def kind_of(invoice):
    if invoice.id.startswith("C"):
        return CREDIT
    if invoice.id.startswith("A"):
        return BAD_DEBT
    if not (invoice.id.isascii() and invoice.id.isdecimal()):
        raise ValueError(f"invoice {invoice.id!r} is of no known kind")
    if any(line.units < 0 for line in invoice.lines):
        return STOCK_DOWN
    if not invoice.customer and all(line.price == 0 for line in invoice.lines):
        return STOCK_UP
    if all(line.code == FEE_CODE for line in invoice.lines):
        return FEE
    return ORDER


def check_signs(invoice):
    """Refuses what the mapping has no meaning for, rather than to make one up."""
    kind = invoice.kind
    for line in invoice.lines:
        is_wrong = line.units == 0
        is_wrong |= kind == CREDIT and line.units > 0
        is_wrong |= kind == ORDER and line.price < 0
        is_wrong |= kind == STOCK_DOWN and (line.units > 0 or line.price != 0)
        if is_wrong:
            raise ValueError(f"{kind} {invoice.id} line {line.number}: {line.units} units at {line.price}")


def opening_stock(orders):
    """Units by product code: 95 % of what is ordered, rounded up, or the largest single line if that is more."""
    ordered, largest = collections.Counter(), collections.Counter()
    for order in orders:
        for line in order.products:
            ordered[line.code] += line.units
            largest[line.code] = max(largest[line.code], line.units)
    return {code: max(-(-units * OPENING_PERCENT // 100), largest[code]) for code, units in ordered.items()}


class Bought:
    """An order's line, and how many of its units no credit has taken yet."""

    __slots__ = ("order", "place", "line", "left")

    def __init__(self, order, place, line):
        self.order, self.place, self.line, self.left = order, place, line, line.units


class Credits:
    """Goes through the invoices once, remembers what customers bought, and lets each credit take from it."""

    def __init__(self, invoices):
        self.invoices = invoices
        self.bought = collections.defaultdict(list)
        self.requests = {}
        self.credit_lines = collections.Counter()
        self.unsent = []

    def mapping(self):
        for place, invoice in enumerate(self.invoices):
            if invoice.kind == ORDER and invoice.customer:
                for line in invoice.products:
                    self.bought[invoice.customer, line.code].append(Bought(invoice, place, line))
            elif invoice.kind == CREDIT:
                self.requests[invoice.id] = self.requests_of(invoice)
        return Mapping(self.invoices, self.requests, self.credit_lines, self.unsent)

    def requests_of(self, credit):
        taken = {}
        for line in credit.lines:
            if line.is_service:
                self.count(credit, line, SERVICE if credit.customer else GUEST_SERVICE, -line.units)
            elif not credit.customer:
                self.count(credit, line, GUEST, -line.units)
            else:
                self.take(credit, line, taken)
        return [
            Request(credit.id, order.id, credit.time - order.time <= CANCEL_WITHIN, dict(units))
            for order, units in taken.values()
        ]

    def take(self, credit, line, taken):
        asked = left = -line.units
        there = [bought for bought in self.bought[credit.customer, line.code] if bought.left]
        there.sort(key=lambda bought: (bought.line.price != line.price, -bought.place, bought.line.number))
        for bought in there:
            units = min(left, bought.left)
            if not units:
                break
            bought.left -= units
            left -= units
            _, by_line = taken.setdefault(bought.order.id, (bought.order, collections.Counter()))
            by_line[bought.line.number] += units
        self.count(credit, line, MATCHED if not left else CUT if left < asked else NOTHING_BOUGHT, left)

    def count(self, credit, line, how, unsent_units):
        self.credit_lines[how] += 1
        if unsent_units:
            self.unsent.append(Unsent(credit.id, line.number, how, unsent_units))
