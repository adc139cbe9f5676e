"""Cuts a part out of the retail file that keeps customers whole, so that returns find their purchases.

Taken are the customers whose number ends in 6, every invoice without customer whose number modulo 20 is 6, and all
adjustments (`A…`). Header and lines stay as they are, byte for byte and in order, so csv's quoting is not done anew.
The packed bytes depend on nothing but the source and the pinned zstandard.
"""

import csv

import zstandard

import verify_lines

LEVEL = 19


def write(source, target):
    """Writes the cut of the file `source` to `target`."""
    cut = b"".join(raw for raw, _ in taken(source))
    # A single frame with its content size and checksum, as `zstd -19` makes it.
    packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress(cut)
    with open(target, "wb") as file:
        file.write(packed)


def taken(source):
    """The raw lines that belong to the cut, the header first, each with its fields."""
    with verify_lines.opened(source) as text:
        raw = []

        def remembered():
            for line in text:
                raw.append(line)
                yield line

        header = None
        for row in csv.reader(remembered(), strict=True):
            if header is None:
                header = row
                invoice, customer = header.index("InvoiceNo"), header.index("CustomerID")
                is_taken = True
            else:
                is_taken = belongs(row[invoice], row[customer])
            if is_taken:
                yield "".join(raw).encode(), row
            raw.clear()


def belongs(invoice, customer):
    if invoice.startswith("A"):
        return True
    if customer:
        return customer.removesuffix(".0").endswith("6")
    return int(invoice.removeprefix("C")) % 20 == 6
