"""Switching categories and tools on and off, and telling every process of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mercato.server.cli.session import read_settings, with_runtime
from mercato.server.cli.terminal import say_either

if TYPE_CHECKING:
    from pathlib import Path

    from mercato.server.runtime import Runtime
    from mercato.tenancy.database import TenantDatabase

Switch = Callable[["TenantDatabase", str], Awaitable[bool]]


def switch(kind: str, name: str, tenant: str, *, on: bool, data_dir: Path | None, as_json: bool) -> None:
    """Switch a category or a tool, in one transaction with its audit entry; every process sees it at its next call."""

    async def work(runtime: Runtime) -> bool:
        from mercato.server.changes import Change
        from mercato.tenancy import audit
        from mercato.tenancy.onboarding import local_principal
        from mercato.tenancy.tenants import find_tenant

        found = await find_tenant(runtime.database, tenant)
        if on:  # what was removed from the catalogue can still be switched off
            _check_known(runtime, kind, name)
        principal = await local_principal(runtime.database, found)
        async with runtime.database.tenant(found.id) as db:
            changed = await _function(kind, on=on)(db, name)
            if changed:
                audit.record(db, principal, f"{kind}.{'enable' if on else 'disable'}", {kind: name}, {})
        await runtime.changes.publish(Change("access", found.id))
        return changed

    changed = with_runtime(read_settings(data_dir), work)
    state = "on" if on else "off"
    sentence = f"The {kind} {name} is {state} for {tenant}." if changed else f"The {kind} {name} was {state} already."
    say_either(as_json, {kind: name, "tenant": tenant, "on": on, "changed": changed}, sentence)


def _check_known(runtime: Runtime, kind: str, name: str) -> None:
    from mercato.tenancy.errors import NotFound

    known = runtime.catalog.categories if kind == "category" else runtime.catalog.tools
    if name not in known:
        raise NotFound(f"There is no {kind} {name!r}. There are: {', '.join(sorted(known))}.")


def _function(kind: str, *, on: bool) -> Switch:
    from mercato.tenancy import grants

    if kind == "category":
        return grants.enable_category if on else grants.disable_category
    return grants.enable_tool if on else grants.disable_tool
