"""Bytes -> rows -> groups -> batches, without a database."""

from __future__ import annotations

import csv
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercato.plugins.commerce.shopify_csv.columns import WrongFile
from mercato.plugins.commerce.shopify_csv.customers import CustomersFile
from mercato.plugins.commerce.shopify_csv.groups import ROWS_MAX, grouped
from mercato.plugins.commerce.shopify_csv.orders_file import OrdersFile
from mercato.plugins.commerce.shopify_csv.products_file import ProductsFile
from mercato.plugins.commerce.shopify_csv.reader import Reader, Row, count_lines
from mercato.plugins.commerce.shopify_csv.source import batches

HEADER = (
    "Name,Email,Financial Status,Fulfillment Status,Created at,Currency,Subtotal,Shipping,Taxes,Total,"
    "Lineitem quantity,Lineitem name,Lineitem price"
)
FIRST = "#{n},a@example.com,paid,unfulfilled,2024-05-03 12:31:44 -0400,USD,5.00,0,0,5.00,1,Thing,5.00"
REST = "#{n},a@example.com,,,,,,,,,1,Other thing,0.00"


def rows_of(data: bytes) -> list[Row]:
    return list(Reader(io.BytesIO(data)).rows())


def taken(data: bytes, size: int = 20_000):
    reader = Reader(io.BytesIO(data))
    return list(batches(reader, OrdersFile(reader.header, "orders_export.csv", "USD"), size))


def test_the_mark_at_the_start_and_both_line_ends_are_understood():
    reader = Reader(io.BytesIO(b"\xef\xbb\xbfName,Notes\r\n#1,one\n#2,two\r\n"))
    assert reader.header == ["Name", "Notes"]
    assert [row.cells[:2] for row in reader.rows()] == [["#1", "one"], ["#2", "two"]]


def test_a_row_is_known_by_the_line_it_starts_at():
    rows = rows_of(b'Name,Notes\n#1,"a\nb\nc"\n\n#2,"say ""hi"", please"\n')
    assert [(row.line, row.cells[1]) for row in rows] == [(2, "a\nb\nc"), (6, 'say "hi", please')]


def test_bytes_that_are_no_utf_8_are_a_fault_of_their_row_alone():
    rows = rows_of(b"Name,Notes\n#1,fine\n#2,caf\xe9\n#3,fine\n")
    assert [(row.line, row.fault) for row in rows] == [(2, None), (3, "line 3 is not valid UTF-8"), (4, None)]
    assert rows[1].cells[0] == "#2"


def test_a_quote_that_is_not_closed_takes_no_more_than_a_cell_may_hold():
    good = b"#2,fine\n" * 40_000
    rows = rows_of(b'Name,Notes\n#1,"open\n' + good)
    assert rows[0].fault is not None
    assert rows[0].fault.startswith("the row cannot be read: field larger than field limit")
    assert rows[-1].fault is None
    assert len(rows) > 20_000


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (b"#1", "the row has 1 cells, the header has 2"),
        (b"#1,a,b", "the row has 3 cells, the header has 2"),
        (b'#1,"a"b', "the row cannot be read: ',' expected after '\"'"),
        (b'#1,"a', "the row cannot be read: unexpected end of data"),
        (b"#1,a\rb", "the row cannot be read: new-line character seen in unquoted field"),
    ],
)
def test_what_is_no_row_is_a_fault(row: bytes, fault: str):
    [only] = rows_of(b"Name,Notes\n" + row)
    assert only.line == 2
    assert (only.fault or "").startswith(fault)


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
    reader = Reader(io.BytesIO(header.encode()))
    with pytest.raises(WrongFile) as refusal:
        source(reader.header, "x.csv", "USD")
    assert str(refusal.value) == f"x.csv is not Shopify's export of {kind}: its header lacks {lacking}."


@pytest.mark.parametrize("data", [b"", b"\xff\xfeN\x00a\x00", b'"Name', b"PK\x03\x04\x00\xff"])
def test_what_is_no_csv_has_no_header(data: bytes):
    assert Reader(io.BytesIO(data)).header in ([], ["N"], ["PK"])


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
        reader = Reader(file)
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
