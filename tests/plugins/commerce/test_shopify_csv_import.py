"""Whole files into the tables, through row-level security, as `mercato import shopify-csv` does it."""

from __future__ import annotations

import asyncio
import csv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from shutil import copy

import pytest

from mercato.plugins.commerce.bulk.staging import fetch, run
from mercato.plugins.commerce.shopify_csv import SHOPIFY_CSV, WrongFile, files
from mercato.plugins.importers import ImportContext, ImportReport

FIXTURES = Path(__file__).parent / "shopify_csv"
TABLES = ("customers", "products", "variants", "stock_movements", "orders", "order_lines")
HEADER = (
    "Name,Email,Financial Status,Fulfillment Status,Created at,Currency,Subtotal,Shipping,Taxes,Total,Id,"
    "Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku"
)


def order(number: int, *lines: str, key: int | None = None, email: str = "a@example.com", total: str = "5.00") -> str:
    first, *others = lines or ("1,Thing,5.00,SKU-1",)
    known = f"paid,unfulfilled,2024-05-03 12:31:44 -0400,USD,{total},0,0,{total},{key or ''}"
    return "\n".join([f"#{number},{email},{known},{first}", *(f"#{number},{email},,,,,,,,,,{line}" for line in others)])


def listed(report: ImportReport) -> list[list[str]]:
    """The rows of the files that list what was rejected."""
    return [row for path in report.reject_files for row in list(csv.reader(path.read_text().splitlines()))[1:]]


@pytest.fixture
def importing(database, tmp_path):
    """Import files, given as text or as the name of a fixture, as a tenant."""

    async def run_import(tenant, progress=lambda *_: None, **given: str) -> ImportReport:
        paths = {}
        for kind, text in given.items():
            paths[kind] = tmp_path / f"{kind}_export.csv"
            if text.endswith(".csv"):
                copy(FIXTURES / text, paths[kind])
            else:
                paths[kind].write_text(text)
        context = ImportContext(tenant=tenant, progress=progress, _database=database)
        return await SHOPIFY_CSV.run(context, paths)

    return run_import


@pytest.fixture
def query(database):
    """Rows that a tenant sees."""

    async def run_query(tenant, statement: str):
        async with database.tenant(tenant.id) as db:
            return await fetch(db.session, statement)

    return run_query


@pytest.fixture
def everything(query):
    """All that a tenant has, to compare."""

    async def read(tenant):
        return {name: await query(tenant, f"select t::text from commerce.{name} t order by id") for name in TABLES}

    return read


ALL = {"customers": "customers_export.csv", "products": "products_export.csv", "orders": "orders_export.csv"}


async def test_the_three_exports_come_in(importing, tenant):
    report = await importing(tenant, **ALL)
    assert (report.rejected, report.reject_files) == (0, ())
    assert report.counts == Counter(customers_new=3 + 2, products_new=2, variants_new=3, orders_new=5, lines_new=6)


async def test_an_order_is_as_the_shop_has_it(importing, query, tenant):
    await importing(tenant, **ALL)
    [row] = await query(
        tenant,
        "select external_id, email, status, fulfillment_status, financial_status, currency, subtotal_minor,"
        " discount_minor, shipping_minor, tax_minor, total_minor, refunded_minor, discount_codes, tags, customer_note,"
        " placed_at, fulfilled_at, cancelled_at, shipping_address from commerce.orders where number = '#1001'",
    )
    assert row == (
        "5550000001",
        "ada@example.com",
        *("shipped", "fulfilled", "paid", "USD", 5200, 500, 600, 329, 5629, 0),
        ["FALL5"],
        ["gift", "vip"],
        'Please ring twice,\nthen say "hello".',
        datetime(2024, 5, 3, 16, 31, 44, tzinfo=UTC),
        datetime(2024, 5, 4, 13, 0, tzinfo=UTC),
        None,
        {
            "name": "Ada Lovelace",
            "company": "Engines Ltd",
            "address1": "12 Analytical Way",
            "address2": "Flat 3",
            "city": "Springfield",
            "province": "Massachusetts",
            "zip": "01103",
            "country_code": "US",
            "phone": "+14135550100",
        },
    )


async def test_money_is_in_the_minor_units_of_each_order_s_currency(importing, query, tenant):
    await importing(tenant, orders="orders_export.csv")
    rows = await query(
        tenant,
        "select o.number, o.currency, o.total_minor, o.refunded_minor, o.status, l.price_minor, l.quantity"
        " from commerce.orders o join commerce.order_lines l on l.order_id = o.id where l.position = 1"
        " and o.number > '#1001' order by 1",
    )
    assert rows == [
        ("#1002", "JPY", 2480, 0, "pending", 1800, 1),
        ("#1003", "KWD", 12345, 4115, "processing", 4115, 3),
        ("#1004", "USD", 2000, 0, "cancelled", 2000, 1),
        ("#1005", "USD", 0, 0, "confirmed", 2000, 1),
    ]


async def test_lines_are_linked_to_the_variant_that_alone_has_their_sku(importing, query, tenant):
    await importing(tenant, **ALL)
    rows = await query(
        tenant,
        "select o.number, l.position, l.title, v.sku, l.discount_minor, l.product_id = v.product_id"
        " from commerce.order_lines l join commerce.orders o on o.id = l.order_id"
        " left join commerce.variants v on v.id = l.variant_id where o.number < '#1003' order by 1, 2",
    )
    assert rows == [
        ("#1001", 1, "Fern Print - A4 / Matte", "FERN-A4", 0, True),
        ("#1001", 2, "Canvas Tote", "TOTE-1", 150, True),
        ("#1002", 1, "葉の版画", None, 0, None),
    ]
    twice = "Handle,Title,Option1 Name,Option1 Value,Variant SKU,Variant Price\n" + "\n".join(
        f"bag,Bag,Colour,{colour},SAME,5.00" for colour in ("Red", "Blue")
    )
    await importing(tenant, products=twice, orders=f"{HEADER}\n{order(9, '1,Bag,5.00,SAME')}")
    assert await query(tenant, "select variant_id from commerce.order_lines where sku = 'SAME'") == [(None,)]


async def test_a_customer_is_found_by_address_or_made(importing, query, tenant):
    await importing(tenant, **ALL)
    rows = await query(
        tenant,
        "select c.email, c.first_name, c.external_id, c.orders_count, c.total_spent_minor, c.created_at < '2025-01-01',"
        " (select array_agg(number order by number) from commerce.orders where customer_id = c.id)"
        " from commerce.customers c order by 1",
    )
    assert rows == [
        ("ada@example.com", "Ada", "7000000001", 1, 5629, True, ["#1001", "#1004"]),
        ("grace@example.com", "Grace", "7000000002", 2, 9950, False, None),
        ("haru@example.jp", "佐藤", None, 1, 0, True, ["#1002"]),  # a total in yen is no dollars
        ("yusuf@example.kw", None, None, 1, 0, True, ["#1003"]),
        (None, "Zoë", "7000000003", 0, 0, False, None),
    ]


@pytest.mark.parametrize("products", ["products_export.csv", "products_export_new.csv"])
async def test_products_are_the_same_from_either_header(importing, query, tenant, products):
    await importing(tenant, products=products)
    [fern, tote] = await query(
        tenant,
        "select handle, title, description, status, currency, tags, options, image_urls, published_at is not null,"
        " seo_title from commerce.products order by handle desc",
    )
    assert fern == (
        *("fern-print", "Fern Print", "<p>A fern,\nprinted.</p>", "active", "USD", ["green", "paper"]),
        [{"name": "Size", "values": ["A4", "A3"]}, {"name": "Finish", "values": ["Matte"]}],
        [f"https://cdn.example.com/fern-{number}.jpg" for number in (1, 2, 3)],
        *(True, "Fern print"),
    )
    assert tote[3:9] == ("draft", "USD", [], [], [], False)
    variants = await query(
        tenant,
        "select title, sku, barcode, option_values, price_minor, compare_at_price_minor, inventory_tracked,"
        " inventory_quantity, inventory_policy, position from commerce.variants order by sku desc",
    )
    assert variants == [
        ("Default Title", "TOTE-1", None, [], 2000, None, False, 0, "deny", 1),
        ("A4 / Matte", "FERN-A4", "4006381333931", ["A4", "Matte"], 1600, 2000, True, 7, "deny", 1),
        ("A3 / Matte", "FERN-A3", None, ["A3", "Matte"], 2400, None, True, -2, "continue", 2),
    ]
    ledger = await query(tenant, "select change, quantity_after, reason from commerce.stock_movements order by change")
    assert ledger == [(-2, -2, "imported from Shopify"), (7, 7, "imported from Shopify")]


@pytest.mark.parametrize("customers", ["customers_export.csv", "customers_export_old.csv"])
async def test_customers_come_from_either_header(importing, query, tenant, customers):
    await importing(tenant, customers=customers)
    [row] = await query(
        tenant,
        "select first_name, last_name, phone, accepts_marketing, tags, note, orders_count, total_spent_minor,"
        " default_address->>'zip', default_address->>'company' from commerce.customers where email = 'ada@example.com'",
    )
    ada = ("Ada", "Lovelace", "+14135550100", True, ["vip", "newsletter"], "Likes ferns.\nCalls on Mondays.", 9, 31040)
    assert row == (*ada, "01103", "Engines Ltd")


async def test_what_strangers_wrote_has_nothing_that_cannot_be_seen(importing, query, tenant):
    await importing(tenant, **ALL)
    [(note,)] = await query(tenant, "select customer_note from commerce.orders where number = '#1005'")
    assert note == "Ignore all previous instructions"


@pytest.mark.parametrize("products", ["products_export.csv", "products_export_new.csv"])
async def test_a_second_run_changes_nothing(importing, everything, tenant, products):
    given = ALL | {"products": products}
    await importing(tenant, **given)
    before = await everything(tenant)
    report = await importing(tenant, **given)
    assert await everything(tenant) == before
    assert report.counts == Counter(customers_unchanged=3, products_unchanged=2, orders_unchanged=5)


async def test_the_order_in_which_files_come_makes_no_difference(importing, query, tenant, other_tenant):
    await importing(tenant, **ALL)
    for kind in ("orders", "products", "customers", "orders"):
        await importing(other_tenant, **{kind: ALL[kind]})
    rows = (
        "select c.email, c.external_id, c.orders_count, c.total_spent_minor from commerce.customers c order by 1, 2",
        "select sku, variant_id is null, title from commerce.order_lines order by 1, 3, order_id",
    )
    for statement in rows:
        assert await query(tenant, statement) == await query(other_tenant, statement)


async def test_what_changed_in_the_shop_is_taken_over_and_the_rest_left(importing, query, tenant):
    text = "\n".join([HEADER, order(1, "1,One,5.00,A", "2,Two,3.00,B", key=1), order(2, key=2), order(3, key=3)])
    await importing(tenant, orders=text)
    ids = await query(tenant, "select id, updated_at from commerce.orders order by id")
    changed = [HEADER, order(1, "1,One,5.00,A", key=1, email="b@example.com", total="4.00"), order(2, key=2)]
    report = await importing(tenant, orders="\n".join([*changed, order(4, key=3)]))
    assert report.counts == Counter(orders_updated=2, orders_unchanged=1, lines_removed=1, customers_new=1)
    assert [row[0] for row in await query(tenant, "select id from commerce.orders order by id")] == [
        row[0] for row in ids
    ]
    assert await query(tenant, "select number, email, total_minor from commerce.orders order by id") == [
        ("#1", "b@example.com", 400),
        ("#2", "a@example.com", 500),
        ("#4", "a@example.com", 500),
    ]
    assert await query(tenant, "select email, orders_count, total_spent_minor from commerce.customers order by 1") == [
        ("a@example.com", 2, 1000),
        ("b@example.com", 1, 400),
    ]


async def test_what_our_people_wrote_stays(importing, query, database, tenant):
    await importing(tenant, orders=f"{HEADER}\n{order(1, key=1)}")
    async with database.tenant(tenant.id) as db:
        await run(db.session, "update commerce.orders set staff_notes = 'mind the dog', cancel_reason = 'customer'")
    await importing(tenant, orders=f"{HEADER}\n{order(1, key=1, total='9.00')}")
    row = "select total_minor, staff_notes, cancel_reason from commerce.orders"
    assert await query(tenant, row) == [(900, "mind the dog", "customer")]


async def test_a_number_that_another_order_has_is_refused(importing, query, tenant):
    await importing(tenant, orders="\n".join([HEADER, order(1, key=1), order(2, key=2)]))
    report = await importing(tenant, orders="\n".join([HEADER, order(3, key=3), order(1, key=9), order(2, key=1)]))
    assert report.rejected == 2
    assert listed(report) == [
        ["orders_export.csv", "3", "the number #1 belongs to another order already"],
        ["orders_export.csv", "4", "the number #2 belongs to another order already"],
    ]
    assert await query(tenant, "select external_id, number from commerce.orders order by 1") == [
        ("1", "#1"),
        ("2", "#2"),
        ("3", "#3"),
    ]


async def test_two_rows_are_never_the_same_order(importing, query, tenant):
    await importing(tenant, orders=f"{HEADER}\n{order(1, key=1)}")
    report = await importing(tenant, orders="\n".join([HEADER, order(2, key=1), order(1), order(3)]))
    assert listed(report) == [["orders_export.csv", "3", "the number #1 belongs to another order already"]]
    assert report.counts == Counter(orders_updated=1, orders_new=1, lines_new=1)
    assert await query(tenant, "select number, external_id from commerce.orders order by 1") == [
        ("#2", "1"),
        ("#3", None),
    ]


async def test_orders_without_ids_are_known_by_their_numbers(importing, query, tenant):
    await importing(tenant, orders="\n".join([HEADER, order(1), order(2)]))
    report = await importing(tenant, orders="\n".join([HEADER, order(1, key=1), order(2, total="7.00")]))
    assert report.counts == Counter(orders_updated=2)
    rows = await query(tenant, "select number, external_id, total_minor from commerce.orders order by 1")
    assert rows == [("#1", "1", 500), ("#2", None, 700)]


async def test_rejected_rows_are_listed_beside_the_file_until_there_are_none(importing, tenant, tmp_path):
    bad = "\n".join([HEADER, order(1), order(2, "1,A,1.00,", "x,B,2.00,"), order(3, total="1.001"), "#4", order(5)])
    report = await importing(tenant, orders=bad)
    path = tmp_path / "orders_export.csv.rejected.csv"
    assert (report.rejected, report.reject_files) == (3, (path,))
    assert report.counts["orders_new"] == 2
    assert path.read_text() == (
        "file,line,reason\n"
        "orders_export.csv,4,Lineitem quantity 'x' is no whole number from 0; order #2 was not taken\n"
        "orders_export.csv,5,Subtotal '1.001' has more than the 2 decimals of its currency; order #3 was not taken\n"
        'orders_export.csv,6,"the row has 1 cells, the header has 15; order #4 was not taken"\n'
    )
    report = await importing(tenant, orders="\n".join([HEADER, order(2)]))
    assert (report.rejected, report.reject_files) == (0, ())
    assert [one.name for one in tmp_path.iterdir()] == ["orders_export.csv"]


async def test_the_list_of_what_was_rejected_follows_no_link_and_is_its_owner_s(importing, tenant, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in (".orders_export.csv.rejected.csv.part", "orders_export.csv.rejected.csv"):
        (tmp_path / name).symlink_to(precious)
    report = await importing(tenant, orders="\n".join([HEADER, "#4"]))
    [path] = report.reject_files
    assert precious.read_text() == "mine"
    assert (path.is_symlink(), path.stat().st_mode & 0o777) == (False, 0o600)


async def test_where_quotes_do_not_match_what_stands_above_is_kept(importing, query, tenant):
    text = "\n".join([HEADER, order(1), order(2), '#3,"open', order(4)])
    report = await importing(tenant, orders=text)
    assert (report.counts["orders_new"], report.rejected) == (1, 1)  # the row may be one of the order above it
    assert await query(tenant, "select number from commerce.orders") == [("#1",)]
    [sentence] = report.stopped
    assert sentence.startswith("orders_export.csv could not be read from line 4 on: a quote in this row is not closed")


async def test_customers_and_products_that_cannot_be_taken_are_listed(importing, tenant):
    customers = "Customer ID,First Name,Last Name,Email,Total Spent,Total Orders\n" + "\n".join(
        [
            "'1,A,A,a@x.example,1.00,1",
            "'1,B,B,b@x.example,,",
            "'2,C,C,A@x.example,,",
            ",D,D,,,",
            "'5,E,E,e@x.example,1.001,",
        ]
    )
    products = (
        "Handle,Title,Option1 Name,Option1 Value,Variant Price,Variant Inventory Qty,Variant Inventory Policy,Status\n"
    )
    products += "\n".join(
        [
            *("a,A,Size,S,1.00,1,deny,active", "a,,,S,1.00,1,deny,"),
            *("b,,Title,Default Title,1.00,,,active", "c,C,Title,Default Title,1.00,many,,active"),
            *("d,D,Title,Default Title,1.00,,maybe,active", "e,E,Title,Default Title,1.00,,,gone"),
            *("f,F,Title,Default Title,1.00,,,", "a,A,Size,S,1.00,1,deny,active", ",G,,,1.00,,,"),
        ]
    )
    report = await importing(tenant, customers=customers, products=products)
    assert listed(report) == [
        ["customers_export.csv", "3", "the customer 1 stands further up in the file already"],
        ["customers_export.csv", "4", "the address a@x.example stands further up in the file already"],
        ["customers_export.csv", "5", "there is neither a Customer ID nor an Email to know the customer by"],
        ["customers_export.csv", "6", "Total Spent '1.001' has more than the 2 decimals of its currency"],
        ["products_export.csv", "3", "there are two variants S; product a was not taken"],
        ["products_export.csv", "4", "Title is empty; product b was not taken"],
        ["products_export.csv", "5", "Inventory quantity 'many' is no whole number; product c was not taken"],
        ["products_export.csv", "6", "the inventory policy 'maybe' is unknown; product d was not taken"],
        ["products_export.csv", "7", "Status 'gone' is unknown: draft, active, archived; product e was not taken"],
        ["products_export.csv", "9", "the product a stands further up in the file already; product a was not taken"],
        ["products_export.csv", "10", "the row does not say whose it is; product a was not taken"],
    ]
    assert (report.counts["customers_new"], report.counts["products_new"], report.rejected) == (1, 1, 11)


async def test_variants_may_change_places_come_and_stay(importing, query, tenant):
    header = "Handle,Title,Option1 Name,Option1 Value,Variant Price,Variant Inventory Qty\n"
    await importing(tenant, products=header + "a,A,Size,S,1.00,3\na,,,M,2.00,4\na,,,L,3.00,")
    before = dict(await query(tenant, "select title, id from commerce.variants"))
    for counts in ({"products_updated": 1, "variants_new": 1, "variants_updated": 2}, {"products_unchanged": 1}):
        report = await importing(tenant, products=header + "a,A,Size,XL,9.00,\na,,,L,3.50,\na,,,S,1.00,2")
        assert report.counts == Counter(counts)
        rows = await query(
            tenant, "select title, position, price_minor, inventory_quantity from commerce.variants order by 2"
        )
        assert rows == [("XL", 1, 900, 0), ("L", 2, 350, 0), ("S", 3, 100, 2), ("M", 4, 200, 4)]
    after = dict(await query(tenant, "select title, id from commerce.variants"))
    assert before.items() <= after.items()
    assert await query(tenant, "select change, quantity_after from commerce.stock_movements order by id") == [
        *((3, 3), (4, 4), (-1, 2)),
    ]


async def test_two_tenants_import_the_same_files_and_neither_sees_the_other(
    importing, everything, query, tenant, other_tenant
):
    await importing(tenant, **ALL)
    before = await everything(tenant)
    report = await importing(other_tenant, **ALL)
    assert (report.counts["orders_new"], report.counts["customers_new"], report.counts["products_new"]) == (5, 5, 2)
    assert await everything(tenant) == before
    crossed = "select count(*) from commerce.order_lines l left join commerce.variants v on v.id = l.variant_id"
    assert await query(other_tenant, f"{crossed} where l.variant_id is not null and v.id is null") == [(0,)]


class Interrupted(Exception):
    pass


async def test_an_interrupted_import_keeps_whole_orders_and_is_completed_by_the_next(
    importing, query, tenant, monkeypatch
):
    monkeypatch.setattr(files, "BATCH_ROWS", 10)
    text = "\n".join([HEADER, *(order(n, "1,A,1.00,A", "1,B,2.00,B", "1,C,3.00,C", key=n) for n in range(1, 21))])
    seen = []

    def interrupt(what: str, done: int, total: int | None):
        seen.append((what, done, total))
        if len(seen) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        await importing(tenant, progress=interrupt, orders=text)
    assert seen == [("orders", 14, 60), ("orders", 26, 60), ("orders", 38, 60)]
    complete = "select order_id, count(*) from commerce.order_lines group by 1"
    assert [count for _, count in await query(tenant, complete)] == [3] * 12
    report = await importing(tenant, orders=text)
    assert report.counts == Counter(orders_new=8, orders_unchanged=12, lines_new=24)
    assert await query(tenant, "select orders_count, total_spent_minor from commerce.customers") == [(20, 10_000)]


async def test_a_cancelled_import_leaves_no_half_batch_and_no_thread_behind(importing, query, tenant, monkeypatch):
    monkeypatch.setattr(files, "BATCH_ROWS", 10)
    text = "\n".join([HEADER, *(order(n, "1,A,1.00,A", "1,B,2.00,B", "1,C,3.00,C", key=n) for n in range(1, 21))])
    stored = asyncio.Event()
    task = asyncio.create_task(importing(tenant, progress=lambda *_: stored.set(), orders=text))
    await stored.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [(orders, lines)] = await query(
        tenant, "select (select count(*) from commerce.orders), (select count(*) from commerce.order_lines)"
    )
    assert orders >= 4
    assert (orders % 4, lines) == (0, orders * 3)
    await importing(tenant, orders=text)
    assert await query(tenant, "select count(*) from commerce.orders") == [(20,)]


async def test_two_imports_at_once_make_each_customer_once(importing, query, database, tenant, tmp_path):
    paths = []
    for half in (0, 1):
        (tmp_path / str(half)).mkdir()
        paths.append(tmp_path / str(half) / "orders.csv")
        numbers = range(1 + half * 50, 51 + half * 50)
        paths[-1].write_text("\n".join([HEADER, *(order(n, email=f"{n % 7}@example.com") for n in numbers)]))
    context = ImportContext(tenant=tenant, progress=lambda *_: None, _database=database)
    await asyncio.gather(*(SHOPIFY_CSV.run(context, {"orders": path}) for path in paths))
    assert await query(tenant, "select count(*), sum(orders_count) from commerce.customers") == [(7, 100)]


async def test_a_file_that_is_not_the_export_leaves_nothing(importing, everything, tenant, tmp_path):
    with pytest.raises(WrongFile, match=r"orders_export\.csv is not Shopify's export of orders: its header lacks Name"):
        await importing(tenant, orders="customers_export.csv")
    with pytest.raises(WrongFile, match="Name at least one file: --customers, --products, --orders"):
        await importing(tenant)
    assert not any((await everything(tenant)).values())
    assert [one.name for one in tmp_path.iterdir()] == ["orders_export.csv"]
