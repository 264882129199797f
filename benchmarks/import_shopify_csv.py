"""How fast a Shopify orders export comes in: rows of the file a second, and the memory it takes.

    python benchmarks/import_shopify_csv.py --rows 1000000

A seeded file is made in a temporary directory, where embedded engines run too: 2.5 rows an order, newest first as
Shopify writes them, of customers who come 3.2 times, mostly within weeks. The first import fills empty tables; the
second finds everything there and changes nothing. The shares are of the time that each waits for: `copy` to the
staging tables, `match` with the orders there are, linking and making customers, `insert` of orders, `put_lines`,
`changes` and `update` of what differs, `count` of the customers' orders at the end. Reading and mapping the file goes
on in a thread meanwhile; how fast it is alone is told apart. Most of the time is PostgreSQL's, and most of that is
keeping the indexes and checking the foreign keys of orders and lines.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import random
import resource
import tempfile
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mercato.migrations.runner import upgrade
from mercato.plugins.commerce import bulk
from mercato.plugins.commerce.bulk import counters, staging
from mercato.plugins.commerce.bulk import orders as bulk_orders
from mercato.plugins.commerce.shopify_csv import SHOPIFY_CSV, files, source
from mercato.plugins.commerce.shopify_csv.orders_file import OrdersFile
from mercato.plugins.commerce.shopify_csv.reader import Reader
from mercato.plugins.importers import ImportContext, ImportReport
from mercato.server.engines import Engines
from mercato.tenancy.database import Database
from mercato.tenancy.tenants import Tenant, create_tenant

LAST = datetime(2025, 12, 31, 12)  # noqa: DTZ001  # written with an offset of its own
MIGRATIONS = Path(bulk.__file__).parents[1] / "migrations"
ADDRESS = ("Name", "Street", "Address1", "Address2", "Company", "City", "Zip", "Province", "Country", "Phone")
HEADER = [
    *("Name", "Email", "Financial Status", "Paid at", "Fulfillment Status", "Fulfilled at", "Accepts Marketing"),
    *("Currency", "Subtotal", "Shipping", "Taxes", "Total", "Discount Code", "Discount Amount", "Shipping Method"),
    *("Created at", "Lineitem quantity", "Lineitem name", "Lineitem price", "Lineitem compare at price"),
    *("Lineitem sku", "Lineitem requires shipping", "Lineitem taxable", "Lineitem fulfillment status"),
    *(f"Billing {part}" for part in ADDRESS),
    *(f"Shipping {part}" for part in ADDRESS),
    *("Notes", "Note Attributes", "Cancelled at", "Payment Method", "Payment Reference", "Refunded Amount", "Vendor"),
    *("Outstanding Balance", "Employee", "Location", "Device ID", "Id", "Tags", "Risk Level", "Source"),
    "Lineitem discount",
    *(f"Tax {number} {what}" for number in range(1, 6) for what in ("Name", "Value")),
    *("Phone", "Receipt Number", "Duties", "Billing Province Name", "Shipping Province Name", "Payment ID"),
    *("Payment Terms Name", "Next Payment Due At", "Payment References"),
]


def write_export(path: Path, rows: int, seed: int) -> int:
    """Write a file of that many rows; return how many orders it has."""
    chance = random.Random(seed)
    place = {name: at for at, name in enumerate(HEADER)}
    number = written = 0
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        while written < rows:
            number += 1
            lines = min(rows - written, chance.choices((1, 2, 3, 4, 6), (30, 28, 20, 14, 8))[0])
            writer.writerows(_order(chance, place, number, lines, rows // 8))
            written += lines
    return number


def _order(chance: random.Random, place: dict[str, int], number: int, lines: int, customers: int) -> list[list[str]]:
    # Four of five come back within weeks of their first order, the others whenever.
    recent = number * customers // (customers * 3) + chance.randrange(-60, 60)
    customer = recent % customers if chance.random() < 0.8 else chance.randrange(customers)
    priced = [(chance.randint(1, 3), chance.randrange(200)) for _ in range(lines)]
    subtotal = sum(quantity * (500 + 37 * item) for quantity, item in priced)
    at = f"{LAST - timedelta(seconds=number * 60):%Y-%m-%d %H:%M:%S} -0400"
    street = f"{customer % 997} Example Street"
    address = [f"Ada{customer} Lovelace", street, street, "", "", "Springfield", f"'0{customer % 9000 + 1000}"]
    address += ["IL", "US", f"'+1555{customer:07}"]
    rows = []
    for position, (quantity, item) in enumerate(priced):
        row = [""] * len(HEADER)
        row[:2] = f"#{1000 + number}", f"customer{customer}@example.com"
        row[15:20] = [at, str(quantity), f"Thing {item} - Red / M", _money(500 + 37 * item), ""]
        row[20:24] = [f"SKU-{item}", "true", "true", "fulfilled"]
        row[place["Vendor"]], row[place["Lineitem discount"]] = "Acme", "0.00"
        if position == 0:
            row[2:9] = ["paid", at, "fulfilled", at, "no", "USD", _money(subtotal)]
            row[9:15] = ["5.00", "1.20", _money(subtotal + 620), "", "0.00", "Standard"]
            row[24:44] = [*address, *address]
            row[place["Notes"]] = "Please ring\ntwice" if number % 20 == 0 else ""
            row[place["Refunded Amount"]], row[place["Id"]] = "0.00", f"'{5_000_000_000 + number}"
        rows.append(row)
    return rows


def _money(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02}"


def read_only(path: Path) -> float:
    """Return how long the reading alone takes."""
    start = time.perf_counter()
    with path.open("rb") as file:
        reader = Reader(file, path.name)
        for _ in source.batches(reader, OrdersFile(reader.header, path.name, "USD"), files.BATCH_ROWS):
            pass
    return time.perf_counter() - start


def watch(spent: Counter[str]) -> None:
    """Note how long each statement is waited for."""

    def timed(function: Any, name_of: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return await function(*args, **kwargs)
            finally:
                spent[name_of(args[1])] += time.perf_counter() - start

        return call

    names = {
        text.strip(): name.strip("_").lower()
        for module in (bulk_orders, counters)
        for name, text in vars(module).items()
        if name.startswith("_") and isinstance(text, str)
    }
    for module in (bulk_orders, counters):
        module.run = timed(staging.run, lambda text: names[text.strip()])  # type: ignore[attr-defined]
        module.fetch = timed(staging.fetch, lambda text: names[text.strip()])  # type: ignore[attr-defined]
    bulk_orders.stage = timed(staging.stage, lambda table: "copy")  # type: ignore[assignment]


async def measure(database: Database, tenant: Tenant, path: Path) -> tuple[ImportReport, float, dict[str, float]]:
    """Import the file; return the report, the seconds it took, and the shares."""
    spent: Counter[str] = Counter()
    watch(spent)
    context = ImportContext(tenant=tenant, progress=lambda *_: None, _database=database)
    start = time.perf_counter()
    report = await SHOPIFY_CSV.run(context, {"orders": path})
    seconds = time.perf_counter() - start
    shares = {name: round(value / seconds, 3) for name, value in spent.most_common()}
    return report, seconds, shares | {"the rest": round(1 - sum(spent.values()) / seconds, 3)}


async def run(engines: Engines, path: Path, rows: int) -> dict[str, Any]:
    """Import twice into a new database."""
    await upgrade(engines.database_url, {"commerce": MIGRATIONS})
    database = Database(engines.database_url)
    try:
        tenant = await create_tenant(database, "bench", "Bench")
        first, seconds, shares = await measure(database, tenant, path)
        second, again_seconds, again_shares = await measure(database, tenant, path)
    finally:
        await database.close()
    reading = read_only(path)
    return {
        "rows": rows,
        "first": _measured(rows, seconds, shares),
        "second": _measured(rows, again_seconds, again_shares),
        "reading_alone_rows_per_s": round(rows / reading),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "counts": {"first": dict(first.counts), "second": dict(second.counts)},
        "rejected": first.rejected,
    }


def _measured(rows: int, seconds: float, shares: dict[str, float]) -> dict[str, Any]:
    return {"rows_per_s": round(rows / seconds), "seconds": round(seconds, 2), "shares": shares}


def main() -> None:
    """Make the file, start the engines, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mercato-bench-") as home:
        Path(home).chmod(0o755)  # as root the engines run as another user, who must get here
        path = Path(home) / "orders_export.csv"
        write_export(path, options.rows, options.seed)
        engines = Engines(Path(home) / "data")
        engines.start()
        try:
            engines.wait()
            result = asyncio.run(run(engines, path, options.rows))
        finally:
            engines.stop()
    print(json.dumps(result) if options.json else _table(result))


def _table(result: dict[str, Any]) -> str:
    lines = []
    for name in ("first", "second"):
        shares = ", ".join(f"{part} {share:.0%}" for part, share in result[name]["shares"].items())
        lines.append(f"{name:6}  {result[name]['rows_per_s']:>7,} rows/s  {result[name]['seconds']:>7} s  {shares}")
    lines.append(f"reading alone {result['reading_alone_rows_per_s']:,} rows/s; peak RSS {result['peak_rss_mb']} MB")
    lines += [f"{name}: {counts}" for name, counts in result["counts"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
