"""The demonstration tenant of `mercato serve --demo`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mercato.plugins.importers import ImportRefused
from mercato.server.auth.credentials import Credential
from mercato.server.importing import run_importer
from mercato.server.runtime import Runtime
from mercato.tenancy.errors import NotFound
from mercato.tenancy.keys import EVERY_SCOPE, create_key
from mercato.tenancy.onboarding import find_owner, onboard_tenant
from mercato.tenancy.tenants import Tenant, find_tenant

SLUG = "demo"
_KEY_FILE = "demo.key"


@dataclass(frozen=True, slots=True)
class Demo:
    """What a person needs to call the demonstration tenant."""

    tenant: str
    api_key: str


async def ensure_demo(runtime: Runtime, data_dir: Path, tell: Callable[[str], None]) -> Demo:
    """Make the tenant and fill its store, or find them again."""
    try:
        tenant = await find_tenant(runtime.database, SLUG)
    except NotFound:
        tell("Filling the demonstration store …")
        tenant = await onboard_tenant(
            runtime.database,
            SLUG,
            "Demo Store",
            owner_email="owner@demo.example",
            categories=list(runtime.catalog.categories),
        )
    await _fill(runtime, tenant, tell)
    return Demo(SLUG, await _key(runtime, tenant, data_dir))


async def _fill(runtime: Runtime, tenant: Tenant, tell: Callable[[str], None]) -> None:
    for plugin in runtime.catalog.plugins:
        for importer in plugin.importers:
            if importer.demo:
                try:
                    await run_importer(runtime.database, tenant, importer, {}, lambda what, done, total: None)
                except ImportRefused as refusal:  # somebody has used the tenant for data of their own
                    tell(str(refusal))


async def _key(runtime: Runtime, tenant: Tenant, data_dir: Path) -> str:
    """Return the key of an earlier start, kept in the data directory, while it is good; else a new one."""
    path = data_dir / _KEY_FILE
    try:
        kept = path.read_text().strip()
    except OSError:
        kept = ""
    caller = await runtime.directory.caller(Credential("header", kept)) if kept else None
    if caller is not None and caller.principal.tenant_id == tenant.id:
        return kept
    owner = await find_owner(runtime.database, tenant)
    async with runtime.database.tenant(tenant.id) as db:
        _, key = await create_key(db, owner, "demo", [EVERY_SCOPE], None)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(key)
    return key
