"""A walk along the audit's chain, entry by entry, that notes where it does not hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from mercato.tenancy.audit import AuditEntry
from mercato.tenancy.audit_anchor import is_ours as is_our_anchor
from mercato.tenancy.audit_anchor import read_anchors
from mercato.tenancy.audit_chain import MOST_IN_A_BATCH, follows, sealed_columns
from mercato.tenancy.audit_digest import salted_digest
from mercato.tenancy.audit_erasure import is_well_erased
from mercato.tenancy.audit_head import END_LOST, NOTHING_BEFORE, End
from mercato.tenancy.audit_head import is_ours as is_our_head
from mercato.tenancy.audit_signer import AuditSigner

_PROVEN = ("number", "seal", "salt", "arguments", "effect", "erased_at", "erasure")


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain does not hold, and in what way."""

    number: int
    reason: str


async def begin_of(connection: AsyncConnection, signer: AuditSigner, tenant_id: int) -> tuple[list[Break], End]:
    """Return where the chain begins, after its last anchor, and what is wrong with the anchors."""
    breaks, end = [], End(0, NOTHING_BEFORE)
    for anchor in await read_anchors(connection, tenant_id):
        if not is_our_anchor(signer, anchor):
            breaks.append(
                Break(anchor.first_number, f"The anchor of number {anchor.number} {_not_ours(signer, anchor)}.")
            )
        elif anchor.first_number != end.number + 1:
            breaks.append(Break(end.number + 1, f"The anchor before number {anchor.first_number} is missing."))
        end = End(anchor.number, anchor.seal)
    return breaks, end


def _not_ours(signer: AuditSigner, row: Any) -> str:
    if not signer.knows(row.signature):
        return "was signed with a key that is not in MERCATO_SECRET_KEYS"
    return "was changed"


async def entries_of(connection: AsyncConnection, tenant_id: int, up_to: int | None = None) -> AsyncIterator[Any]:
    """Read what was sealed of a tenant, by number, in parts."""
    number, entry_id = col(AuditEntry.number), col(AuditEntry.id)
    columns = [*sealed_columns(), *(getattr(AuditEntry, name) for name in _PROVEN)]
    statement = sa.select(*columns).where(col(AuditEntry.tenant_id) == tenant_id, number.is_not(None))
    if up_to is not None:
        statement = statement.where(number <= up_to)
    statement = statement.order_by(number, entry_id).limit(MOST_IN_A_BATCH)
    rows = (await connection.execute(statement)).all()
    while rows:
        for row in rows:
            yield row
        after = sa.tuple_(number, entry_id) > sa.tuple_(rows[-1].number, rows[-1].id)
        rows = (await connection.execute(statement.where(after))).all()


class Walk:
    """Goes along a chain, entry by entry, and notes where it does not hold."""

    def __init__(
        self, signer: AuditSigner, begin: End, known: End | None = None, breaks: list[Break] | None = None
    ) -> None:
        self.end = begin
        self.breaks = list(breaks or ())
        self.entries = self.erased = 0
        self._signer = signer
        self._known = known
        self._compare_known()

    def step(self, entry: Any) -> None:
        """Take the next entry."""
        self.entries += 1
        self.erased += entry.erased_at is not None
        if entry.number <= self.end.number:
            self._break(entry.number, f"Entry {entry.id} was put in at number {entry.number}.")
            return
        if reason := self._fault(entry):
            self._break(min(entry.number, self.end.number + 1), reason)
        self.end = End(entry.number, entry.seal or b"")
        self._compare_known()

    def _fault(self, entry: Any) -> str | None:
        if entry.number > self.end.number + 1:
            return self._gap(entry.number - 1)
        name = f"Entry {entry.id}, number {entry.number},"
        if not follows(self._signer, entry._mapping, self.end):
            return f"{name} {self._why_not(entry)}."
        if entry.erased_at is not None or entry.erasure is not None:
            return (
                None if is_well_erased(self._signer, entry) else f"{name} is marked as erased, and was not erased here."
            )
        for field in ("arguments", "effect"):
            if salted_digest(entry.salt or b"", getattr(entry, field)) != getattr(entry, f"{field}_digest"):
                return f"{name} has another {field.removesuffix('s')} than it had."
        return None

    def _gap(self, last: int) -> str:
        first = self.end.number + 1
        what = f"Number {first} is" if first == last else f"Numbers {first} to {last} are"
        return f"{what} missing{', and no anchor says that they were pruned' if first == 1 else ''}."

    def _why_not(self, entry: Any) -> str:
        if not self._signer.knows(entry.seal):
            return "was sealed with a key that is not in MERCATO_SECRET_KEYS, or its seal was changed"
        if follows(self._signer, entry._mapping, End(self.end.number, END_LOST)):
            return "was sealed when the record of the chain's end was gone: entries before it may be missing"
        return "was changed or put in"

    def finish(self, head: Any) -> None:
        """Compare where the entries end with where they should."""
        if head is None:
            if self.end.number:
                self._break(self.end.number, "The record of the chain's end is missing.")
        elif not is_our_head(self._signer, head):
            self._break(self.end.number, f"The record of the chain's end {_not_ours(self._signer, head)}.")
        elif head.number > self.end.number:
            self._break(self.end.number + 1, self._gap(head.number))
            self.end = End(head.number, head.seal)
        elif (head.number, head.seal) != (self.end.number, self.end.seal):
            self._break(self.end.number, "The chain's end is not the one that was recorded.")
        if self._known is not None and self._known.number > self.end.number:
            self._break(self.end.number + 1, f"Number {self._known.number} was known, and is gone.")

    def _compare_known(self) -> None:
        if self._known is not None and self._known.number == self.end.number and self._known.seal != self.end.seal:
            self._break(self.end.number, f"Number {self.end.number} has another seal than the one that is known.")

    def _break(self, number: int, reason: str) -> None:
        self.breaks.append(Break(number, reason))
