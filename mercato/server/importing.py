"""Runs an importer for a tenant; each of its transactions has its entry in the audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mercato.plugins.importers import ImportContext, Importer, ImportReport, Progress
from mercato.tenancy import audit
from mercato.tenancy.database import Database, TenantDatabase
from mercato.tenancy.onboarding import local_principal
from mercato.tenancy.tenants import Tenant


async def run_importer(
    database: Database,
    tenant: Tenant,
    importer: Importer,
    files: Mapping[str, Path],
    progress: Progress,
    kept: Counter[str] | None = None,
) -> ImportReport:
    """Run it; what it takes is committed batch by batch, so that an interrupted import is gone on with.

    `kept` is added to with every batch, for who must tell what an import left that did not come to its end.
    """
    principal = await local_principal(database, tenant)
    names = {option: path.name for option, path in files.items()}

    def note(db: TenantDatabase, effect: Mapping[str, int]) -> None:
        audit.record(db, principal, f"import.{importer.name}", names, dict(effect))

    context = ImportContext(
        tenant=tenant,
        progress=progress,
        kept=Counter() if kept is None else kept,
        _database=database,
        _note=note,
    )
    return await importer.run(context, files)
