"""Bytes -> rows -> groups -> batches, without a database."""

from __future__ import annotations

import codecs
import csv
import io
import re
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mercato.plugins.commerce.shopify_csv.columns import WrongFile
from mercato.plugins.commerce.shopify_csv.customers import CustomersFile
from mercato.plugins.commerce.shopify_csv.groups import ROWS_MAX, grouped
from mercato.plugins.commerce.shopify_csv.lines import RECORD_MAX_BYTES, count_lines
from mercato.plugins.commerce.shopify_csv.orders_file import OrdersFile
from mercato.plugins.commerce.shopify_csv.products_file import ProductsFile
from mercato.plugins.commerce.shopify_csv.reader import Reader, Row
from mercato.plugins.commerce.shopify_csv.skipping import State, follow
from mercato.plugins.commerce.shopify_csv.source import batches

HEADER = (
    "Name,Email,Financial Status,Fulfillment Status,Created at,Currency,Subtotal,Shipping,Taxes,Total,"
    "Lineitem quantity,Lineitem name,Lineitem price"
)
FIRST = "#{n},a@example.com,paid,unfulfilled,2024-05-03 12:31:44 -0400,USD,5.00,0,0,5.00,1,Thing,5.00"
REST = "#{n},a@example.com,,,,,,,,,1,Other thing,0.00"


def rows_of(data: bytes) -> list[Row]:
    return list(Reader(io.BytesIO(data), "x.csv").rows())


def taken(data: bytes, size: int = 20_000):
    reader = Reader(io.BytesIO(data), "orders_export.csv")
    return list(batches(reader, OrdersFile(reader.header, "orders_export.csv", "USD"), size))


def test_the_mark_at_the_start_and_both_line_ends_are_understood():
    reader = Reader(io.BytesIO(b"\xef\xbb\xbfName,Notes\r\n#1,one\n#2,two\r\n"), "x.csv")
    assert reader.header == ["Name", "Notes"]
    assert [row.cells[:2] for row in reader.rows()] == [["#1", "one"], ["#2", "two"]]


def test_a_row_is_known_by_the_line_it_starts_at():
    rows = rows_of(b'Name,Notes\n#1,"a\nb\nc"\n\n#2,"say ""hi"", please"\n')
    assert [(row.line, row.cells[1]) for row in rows] == [(2, "a\nb\nc"), (6, 'say "hi", please')]


def test_bytes_that_are_no_utf_8_are_a_fault_of_their_row_alone():
    rows = rows_of(b"Name,Notes\n#1,fine\n#2,caf\xe9\n#3,fine\n")
    assert [(row.line, row.fault) for row in rows] == [(2, None), (3, "line 3 is not valid UTF-8"), (4, None)]
    assert rows[1].cells[0] == "#2"


@pytest.mark.parametrize("rows", [4, 400_000], ids=["short", "longer than a row may be"])
def test_behind_a_quote_that_is_not_closed_nothing_is_a_row(rows: int):
    reader = Reader(io.BytesIO(b'Name,Notes\n#1,fine\n#2,"open\n' + b"#3,fine\n" * rows), "x.csv")
    read = list(reader.rows())
    assert [(row.line, row.fault) for row in read] == [
        (2, None),
        (3, "a quote in this row is not closed to the end of the file; nothing from here on was taken"),
    ]
    assert (reader.stopped or "").startswith(
        "x.csv could not be read from line 3 on: a quote in this row is not closed"
    )


@pytest.mark.parametrize("long", ["", "x" * (RECORD_MAX_BYTES + 1)], ids=["short", "longer than a row may be"])
@pytest.mark.parametrize("row", ['#2,"{long}a"b\n#3,fine\n', '#2,{long}a\r"\n#3,fine\n"\n', '#2,"{long}\n#3"x,"fine\n'])
def test_behind_quotes_that_are_out_of_place_nothing_is_a_row(row: str, long: str):
    reader = Reader(io.BytesIO(b"Name,Notes\n#1,fine\n" + row.format(long=long).encode()), "x.csv")
    first, last = reader.rows()
    assert (first.fault, last.line) == (None, 3)
    assert last.fault == "a quote or a line's end stands where none may be in this row; nothing from here on was taken"
    assert reader.stopped == (
        "x.csv could not be read from line 3 on: a quote or a line's end stands where none may be in this row. What"
        " stands above it was taken, nothing below it. Mend the file there and import it again."
    )


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (b"#1", "the row has 1 cells, the header has 2"),
        (b"#1,a,b", "the row has 3 cells, the header has 2"),
    ],
)
def test_what_is_no_row_is_a_fault(row: bytes, fault: str):
    [only] = rows_of(b"Name,Notes\n" + row)
    assert (only.line, only.fault) == (2, fault)


@pytest.mark.parametrize("characters", [131_073, 600_000])
def test_a_cell_of_any_length_is_read_while_its_row_may_be_so_long(characters: int):
    [row, _] = rows_of(b'Name,Notes\n#1,"' + b"x\n" * (characters // 2) + b'"\n#2,fine\n')
    assert (row.fault, len(row.cells[1])) == (None, characters // 2 * 2)


@pytest.mark.parametrize("text", ["x", "x\n", '""\n', "\n#8,injected\n", "é,\n"])
def test_text_in_a_cell_that_is_too_long_is_no_row(text: str):
    cell = text * (3 * RECORD_MAX_BYTES // len(text.encode()) + 1)
    before, after = FIRST.format(n=1), FIRST.format(n=3)
    long = f"{FIRST.format(n=2).replace('Thing', '{cell}')}\n{REST.format(n=2)}".replace("{cell}", f'"{cell}"')
    [batch] = taken("\n".join([HEADER, before, long, after]).encode())
    assert [item.order.number for item in batch.items] == ["#1", "#3"]
    assert batch.rejections == [(3, "the row is longer than 1,048,576 bytes; order #2 was not taken")]
    assert batch.line == 5 + cell.count("\n")


def test_a_row_may_be_just_so_long():
    for size, fault in ((RECORD_MAX_BYTES, None), (RECORD_MAX_BYTES + 1, "the row is longer than 1,048,576 bytes")):
        for end in (b"\n", b""):
            [row] = rows_of(b"Name,Notes\n#1," + b"x" * (size - 3 - len(end)) + end)
            assert row.fault == fault


def test_a_line_that_is_too_long_is_one_row():
    plain = b"Name,Notes\n#1," + b"x," * (1 << 20) + b"\n#2,fine\n"
    quoted = b'Name,Notes\n#1,"' + b'x"",' * (1 << 19) + b'"\n#2,fine\n'
    for data in (plain, quoted):
        rows = rows_of(data)
        assert [(row.line, row.cells[0], row.fault) for row in rows] == [
            (2, "#1", "the row is longer than 1,048,576 bytes"),
            (3, "#2", None),
        ]


def test_reading_over_a_row_that_is_too_long_holds_little_of_it():
    for row in (b'#1,"' + (b"x" * 999 + b"\n") * 8_000 + b'"', b"#1" + b",x" * (3 << 18), b"#1," + b'"x",' * (9 << 15)):
        file = io.BytesIO(b"Name,Notes\n" + row + b"\n#2,fine\n")
        tracemalloc.start()
        rows = [fault for _, _, fault in Reader(file, "x.csv").rows()]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert rows == ["the row is longer than 1,048,576 bytes", None]
        assert peak < 100_000_000


CELLS = st.text(st.sampled_from('ab#1,"\n\ré'), max_size=12)
LONG = st.builds(lambda text, times: text * times, CELLS, st.sampled_from([1, 1, 1, 20_000, 200_000]))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(CELLS, LONG, CELLS), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_what_a_writer_wrote_is_read_again_or_refused_for_its_length(records: list[tuple[str, ...]], end: str):
    written = []
    for record in records:
        out = io.StringIO()
        quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL  # a lone return is not quoted otherwise
        csv.writer(out, lineterminator=end, quoting=quoting).writerow(record)
        written.append(out.getvalue().encode())
    reader = Reader(io.BytesIO(b"a,b,c\n" + b"".join(written)), "x.csv")
    long = [len(text) > RECORD_MAX_BYTES for text in written]
    read = list(reader.rows())
    assert [row.fault for row in read] == ["the row is longer than 1,048,576 bytes" if one else None for one in long]
    for row, record, too_long in zip(read, records, long, strict=True):
        assert too_long or row.cells == [*record, ""]
    starts = [2 + sum(text.count(b"\n") for text in written[:at]) for at in range(len(written))]
    assert [row.line for row in read] == starts
    assert reader.stopped is None


@given(st.text(st.sampled_from('a,"\r\n'), max_size=14), st.lists(st.integers(0, 14), max_size=3))
def test_a_record_that_is_skipped_ends_where_csv_says(text: str, cuts: list[int]):
    lines = (
        text.splitlines(keepends=True) if "\r" not in text else [part for part in re.split(r"(?<=\n)", text) if part]
    )
    asked = iter(lines)
    try:
        next(csv.reader(asked, strict=True), None)
        broken = False
    except csv.Error:
        broken = True
    expected = len(text) - len("".join(asked))
    state, at = State.CELL, 0
    for line in lines:
        places = sorted({0, len(line), *(cut - at for cut in cuts if 0 < cut - at < len(line))})
        for start, stop in pairwise(places):
            state = follow(line[start:stop], state)
        at += len(line)
        if state in (State.END, State.BROKEN):
            break
    assert (state in (State.BROKEN, State.QUOTED)) == broken
    assert at == expected


def test_what_cannot_be_seen_is_taken_out():
    unseen = "\x00\x07\x1b\x7f\x9b\u200b\u200e\u202e\u2066\ufeff\u00ad\U000e0041"
    [row] = rows_of(f"Name,Notes\n#1,a{unseen}b ☕️ é\tc\n".encode())
    assert row.cells[1] == "ab ☕️ é\tc"
    [row] = rows_of(b"Name,Notes\n#1,a\x00\x1b[31mb\n")
    assert row.cells[1] == "a[31mb"


def test_a_file_without_lines_is_read_in_pieces():
    data = b"Name,Notes\n" + b"x" * (3 << 20)
    assert all(row.fault for row in rows_of(data))


def test_columns_may_stand_in_any_order_and_case_with_others_between():
    shuffled = "metafield,TOTAL,name,email,financial status,fulfillment status,created at,currency,subtotal,shipping,"
    shuffled += "taxes,lineitem quantity,lineitem name,lineitem price"
    row = "x,5.00,#1,A@example.com,paid,fulfilled,2024-05-03 12:31:44 -0400,USD,5.00,0,0,1,Thing,5.00"
    [batch] = taken(f"{shuffled}\n{row}\n".encode())
    [(order, [line])] = batch.items
    assert (order.number, order.total_minor, order.email, order.status) == ("#1", 500, "a@example.com", "shipped")
    assert (line.title, line.sku) == ("Thing", None)


@pytest.mark.parametrize(
    ("source", "header", "kind", "lacking"),
    [
        (OrdersFile, HEADER.replace("Taxes,", "").replace(",Total", ""), "orders", "Taxes, Total"),
        (
            OrdersFile,
            HEADER.replace("Lineitem", "Line item"),
            "orders",
            "Lineitem quantity, Lineitem name, Lineitem price",
        ),
        (ProductsFile, HEADER, "products", "URL handle or Handle, Title, Price or Variant Price"),
        (CustomersFile, "Name;Email", "customers", "Email, First Name, Last Name"),
        (CustomersFile, "", "customers", "Email, First Name, Last Name"),
    ],
)
def test_a_file_that_is_not_the_export_is_refused_with_what_it_lacks(source, header: str, kind: str, lacking: str):
    reader = Reader(io.BytesIO(header.encode()), "x.csv")
    with pytest.raises(WrongFile) as refusal:
        source(reader.header, "x.csv", "USD")
    assert str(refusal.value) == f"x.csv is not Shopify's export of {kind}: its header lacks {lacking}."


@pytest.mark.parametrize(
    ("data", "said"),
    [
        *(
            (HEADER.encode(encoding), "x.csv is UTF-16. It must be CSV in UTF-8")
            for encoding in ("utf-16", "utf-32-le")
        ),
        (codecs.BOM_UTF16_BE + HEADER.encode("utf-16-be"), "x.csv is UTF-16. It must be CSV in UTF-8"),
        (HEADER.encode("utf-16-be"), "x.csv is no text in UTF-8. It must be CSV in UTF-8"),
        (b"PK\x03\x04\x00\xff", "x.csv is no text in UTF-8. It must be CSV in UTF-8"),
        ("Name,Größe\n".encode("latin-1"), "The header of x.csv is not valid UTF-8. It must be CSV in UTF-8"),
        (b'"Name', "The header of x.csv cannot be read: a quote in this row is not closed to the end of the file"),
        (b'"Name"x', "The header of x.csv cannot be read: a quote or a line's end stands where none may be"),
        (b"Name," * 1_500_000 + b"\n#1,fine", "The header of x.csv is longer than 1,048,576 bytes."),
    ],
)
def test_a_file_that_is_not_csv_in_utf_8_is_refused_and_told_why(data: bytes, said: str):
    data = codecs.BOM_UTF16_LE + data if data[:2] == b"N\0" else data
    with pytest.raises(WrongFile, match=f"^{re.escape(said)}"):
        Reader(io.BytesIO(data), "x.csv")


def test_an_empty_file_has_no_header():
    assert Reader(io.BytesIO(b""), "x.csv").header == []


def test_an_order_with_a_bad_row_is_refused_whole_and_the_others_taken():
    text = [HEADER, FIRST.format(n=1), REST.format(n=1).replace("0.00", "0.005"), FIRST.format(n=2), REST.format(n=2)]
    [batch] = taken("\n".join(text).encode())
    assert [item.order.number for item in batch.items] == ["#2"]
    assert [len(item.lines) for item in batch.items] == [2]
    [(line, reason)] = batch.rejections
    assert line == 3
    assert reason == "Lineitem price '0.005' has more than the 2 decimals of its currency; order #1 was not taken"


def test_a_row_that_cannot_be_read_is_taken_for_one_of_the_order_above():
    text = [HEADER, FIRST.format(n=1), '"#1', FIRST.format(n=2)]
    [batch] = taken("\n".join(text).encode())
    assert batch.items == []
    [batch] = taken("\n".join([HEADER, FIRST.format(n=1), "short,row", FIRST.format(n=2)]).encode())
    assert [item.order.number for item in batch.items] == ["#1", "#2"]
    [batch] = taken("\n".join([HEADER, FIRST.format(n=1), "#1,row", FIRST.format(n=2)]).encode())
    assert [item.order.number for item in batch.items] == ["#2"]
    assert batch.rejections[0] == (3, "the row has 2 cells, the header has 13; order #1 was not taken")


def test_an_order_that_comes_again_is_refused():
    text = [HEADER, FIRST.format(n=1), FIRST.format(n=2), REST.format(n=1)]
    [batch] = taken("\n".join(text).encode())
    assert [item.order.number for item in batch.items] == ["#1", "#2"]
    assert batch.rejections == [(4, "the order #1 stands further up in the file already; order #1 was not taken")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"USD": "dollars"}, "Currency 'dollars' is no currency code"),
        ({"paid": "owed"}, "Financial Status 'owed' is unknown"),
        ({"unfulfilled": "lost"}, "Fulfillment Status 'lost' is unknown"),
        ({"2024-05-03 12:31:44 -0400": "May 3"}, "Created at 'May 3' is no time"),
        ({"2024-05-03 12:31:44 -0400": ""}, "Created at (empty) is no time"),
        ({",0,0,5.00,": ",0,0,five,"}, "Total 'five' is no amount"),
        ({",0,0,5.00,": ",0,0,-5.00,"}, "Total '-5.00' is no amount"),
        ({",1,Thing": ",x,Thing"}, "Lineitem quantity 'x' is no whole number"),
        ({",1,Thing": ",1,"}, "Lineitem name is empty"),
        ({"Thing,5.00": "Thing,5.001"}, "Lineitem price '5.001' has more than the 2 decimals"),
        ({"#7": ""}, "the row does not say whose it is"),
    ],
)
def test_every_reason_comes_with_its_line(change: dict[str, str], reason: str):
    row = FIRST.format(n=7)
    for old, new in change.items():
        row = row.replace(old, new)
    [batch] = taken("\n".join([HEADER, row]).encode())
    [(line, said)] = batch.rejections
    assert (batch.items, line) == ([], 2)
    assert said.startswith(reason)


def test_an_order_without_lines_is_an_order():
    row = FIRST.format(n=7).replace(",1,Thing,5.00", ",,,")
    [batch] = taken("\n".join([HEADER, row]).encode())
    assert [(item.order.number, item.lines) for item in batch.items] == [("#7", [])]


def test_an_order_of_too_many_rows_is_refused_without_holding_them():
    rows = (Row(line, ["#1"], None) for line in range(2, ROWS_MAX + 5_000))
    [group] = grouped(rows, lambda cells: cells[0])
    assert len(group.rows) == ROWS_MAX
    assert group.faults == [(ROWS_MAX + 2, "there are more than 10,000 rows")]


def test_batches_are_of_whole_orders_and_of_bounded_size():
    text = [HEADER]
    for number in range(500):
        text += [FIRST.format(n=number), *[REST.format(n=number)] * (number % 7)]
    made = taken("\n".join(text).encode(), size=100)
    assert max(batch.rows for batch in made) < 100 + 7
    assert sum(batch.rows for batch in made) == len(text) - 1
    assert all(len(item.lines) == item.order.lines_count for batch in made for item in batch.items)
    assert [item.order.number for batch in made for item in batch.items] == [f"#{number}" for number in range(500)]


def test_reading_holds_a_batch_and_not_the_file(tmp_path: Path):
    path = tmp_path / "orders_export.csv"
    with path.open("w") as file:
        file.write(HEADER + "\n")
        for number in range(30_000):
            file.write(FIRST.format(n=number) + "\n")
    assert count_lines(path) == 30_001
    tracemalloc.start()
    with path.open("rb") as file:
        reader = Reader(file, path.name)
        rows = sum(b.rows for b in batches(reader, OrdersFile(reader.header, path.name, "USD"), size=1_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 30_000
    assert peak < 12_000_000  # a batch, and the numbers of the orders: 30,000 orders alone would be 60 MB


WORDS = st.sampled_from(
    [
        *("#1", "#2", "", "USD", "JPY", "paid", "5.00", "5", "1", "x", '"', "\n", ",", "\r", "\x00", "é", "Thing"),
        *("2024-05-03 12:31:44 -0400", "a@example.com", "fulfilled", "-1"),
    ]
)


@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_whatever_break_the_reading(data: bytes):
    for batch in taken(HEADER.encode() + b"\n" + data):
        assert batch.rows >= len(batch.items)


@given(st.lists(st.lists(WORDS, min_size=11, max_size=14), max_size=12))
def test_every_row_is_taken_or_refused(cells: list[list[str]]):
    out = io.StringIO()
    csv.writer(out).writerows(cells)
    data = f"{HEADER}\n{out.getvalue()}".encode()
    rows = rows_of(data)
    made = taken(data)
    assert sum(batch.rows for batch in made) == len(rows)
    groups = list(grouped(rows, lambda one: one[0].strip()))
    accepted = {item.order.line: item.order.lines_count for batch in made for item in batch.items}
    refused = {line for batch in made for line, _ in batch.rejections}
    for group in groups:
        lines = {row.line for row in group.rows} | {line for line, _ in group.faults}
        assert (group.line in accepted) != bool(lines & refused)
