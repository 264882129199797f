"""Importer: brings a tenant's data from files, as a command `mercato import NAME --tenant T …`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.tenants import Tenant

Progress = Callable[[str, int, int | None], None]
"""Told as the work goes: what is being done, how much of it, of how much if that is known."""

Note = Callable[[TenantDatabase, Mapping[str, int]], None]
"""Adds the entry in the audit to a transaction, with its effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportContext:
    """What an importer holds. Each `begin()` is one transaction of the tenant, so that a long import keeps what it has.

    `progress(what, done, total)` tells a person how far it is; `kept` is what was committed so far, by name.
    """

    tenant: Tenant
    progress: Progress
    kept: Counter[str] = field(default_factory=Counter)
    _database: Database = field(repr=False)
    _note: Note = field(default=lambda db, effect: None, repr=False)

    @asynccontextmanager
    async def begin(self, effect: Mapping[str, int] | None = None) -> AsyncIterator[TenantDatabase]:
        """Open a transaction; it is committed when the block ends well, with its entry in the audit.

        `effect` is to say by the block's end what it changed, by name; where that is nothing, there is no entry.
        Without it there is one for every transaction in which the database was used.
        """
        db = self._database.open_tenant(self.tenant.id, read_only=False)
        try:
            yield db
            if any(effect.values()) if effect is not None else db.touched:
                self._note(db, effect or {})
            await db.commit()
        finally:
            if db.is_committed:  # Also where an interruption came while it was: a commit goes to its end.
                self.kept.update(effect or {})
            await db.close()


class ImportRefused(Exception):
    """An import cannot begin or go on: the wrong file, a tenant that is not empty. The text is for a person."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not taken."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did: counts by name, and the files that list rejected rows with line and reason.

    `stopped` has a sentence for each file that could not be read to its end.
    """

    counts: Mapping[str, int]
    rejected: int = 0
    reject_files: tuple[Path, ...] = ()
    stopped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """A way in for data. `files` maps option names to what they hold; each may be left out unless there is but one.

    `demo` marks the importers that fill a demonstration tenant when the server starts with `--demo`.
    """

    name: str
    description: str
    run: Callable[[ImportContext, Mapping[str, Path]], Awaitable[ImportReport]]
    files: Mapping[str, str] = field(default_factory=dict)
    demo: bool = False
