"""Runs an importer for a tenant, and notes it in the audit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mercato.plugins.importers import ImportContext, Importer, ImportReport, Progress
from mercato.tenancy import audit
from mercato.tenancy.database import Database
from mercato.tenancy.onboarding import local_principal
from mercato.tenancy.tenants import Tenant


async def run_importer(
    database: Database, tenant: Tenant, importer: Importer, files: Mapping[str, Path], progress: Progress
) -> ImportReport:
    """Run it; what it takes is committed batch by batch, so that an interrupted import is gone on with."""
    report = await importer.run(ImportContext(tenant=tenant, progress=progress, _database=database), files)
    principal = await local_principal(database, tenant)
    async with database.tenant(tenant.id) as db:
        audit.record(
            db,
            principal,
            f"import.{importer.name}",
            {name: path.name for name, path in files.items()},
            {"counts": dict(report.counts), "rejected": report.rejected},
        )
    return report
