"""The orders export as a source: groups of rows -> orders with their lines -> tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlmodel.ext.asyncio.session import AsyncSession

from mercato.plugins.commerce.bulk.currencies import exponent_of
from mercato.plugins.commerce.bulk.orders import StagedLine, StagedOrder, put_orders, stage_orders
from mercato.plugins.commerce.bulk.staging import Rejection
from mercato.plugins.commerce.shopify_csv.cells import BadCell, bare
from mercato.plugins.commerce.shopify_csv.groups import Group, grouped
from mercato.plugins.commerce.shopify_csv.orders import BILLING, LINE, ORDER, SHIPPING, line_of, order_of
from mercato.plugins.commerce.shopify_csv.reader import Row
from mercato.plugins.commerce.shopify_csv.source import BadRows, Seen


class TakenOrder(NamedTuple):
    """An order with its lines."""

    order: StagedOrder
    lines: list[StagedLine]


class OrdersFile:
    """Orders. One of whose rows one is bad is not taken at all; it is refused too when it comes a second time."""

    def __init__(self, header: list[str], file: str, currency: str) -> None:
        self._order = ORDER.found_in(header, file)
        self._line = LINE.found_in(header, file)
        self._billing = BILLING.found_in(header, file)
        self._shipping = SHIPPING.found_in(header, file)
        self._currency = currency
        self._name_at = ORDER.place("Name", header)
        self._numbers = Seen("order")
        self._ids = Seen("id")

    def groups(self, rows: Iterable[Row]) -> Iterator[Group]:
        """Yield the rows of each order."""
        return grouped(rows, self._key)

    def take(self, group: Group) -> TakenOrder:
        """Return an order with its lines. Raises `BadRows`."""
        again = self._numbers.refuse_again(group.key or None)
        faults = [*group.faults, *([(group.line, again)] if again else [])]
        taken = self._parse(group, faults) if not faults else None
        if faults or taken is None:
            told = f"; order {group.key} was not taken" if group.key else ""
            raise BadRows(Rejection(line, f"{reason}{told}") for line, reason in faults)
        return taken

    async def stage(self, session: AsyncSession, items: Sequence[TakenOrder]) -> None:
        """Copy orders with their lines to the database."""
        lines = [line for item in items for line in item.lines]
        await stage_orders(session, [item.order for item in items], lines)

    async def put(self, session: AsyncSession) -> tuple[dict[str, int], list[Rejection]]:
        """Put them into the tables."""
        counts = (await put_orders(session, self._currency))._asdict()
        rejections = counts.pop("rejected")
        return counts, rejections

    def _key(self, cells: list[str]) -> str:
        return bare(cells[self._name_at]) or "" if len(cells) > self._name_at else ""

    def _parse(self, group: Group, faults: list[tuple[int, str]]) -> TakenOrder | None:
        """Return the order, or None when its first row is bad; add what is bad to `faults`."""
        lines: list[StagedLine] = []
        first = group.rows[0].cells
        try:
            order = order_of(group.line, self._order(first), self._billing(first), self._shipping(first))
        except BadCell as bad:
            faults.append((group.line, str(bad)))
            return None
        if again := self._ids.refuse_again(order.external_id):
            faults.append((group.line, again))
        exponent = exponent_of(order.currency)
        for row in group.rows:
            try:
                line = line_of(group.line, len(lines) + 1, self._line(row.cells), exponent)
            except BadCell as bad:
                faults.append((row.line, str(bad)))
            else:
                if line:
                    lines.append(line)
        return TakenOrder(order._replace(lines_count=len(lines)), lines)
