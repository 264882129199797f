"""Importer: brings a tenant's data from files, as a command `mercato import NAME --tenant T …`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.tenants import Tenant

Progress = Callable[[str, int, int | None], None]
"""Told as the work goes: what is being done, how much of it, of how much if that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportContext:
    """What an importer holds. Each `begin()` is one transaction of the tenant, so that a long import keeps what it has.

    `progress(what, done, total)` tells a person how far it is.
    """

    tenant: Tenant
    progress: Progress
    _database: Database = field(repr=False)

    def begin(self) -> AbstractAsyncContextManager[TenantDatabase]:
        """Open a transaction; it is committed when the block ends well."""
        return self._database.tenant(self.tenant.id)


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
    """What an import did: counts by name, and the files that list rejected rows with line and reason."""

    counts: Mapping[str, int]
    rejected: int = 0
    reject_files: tuple[Path, ...] = ()


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
