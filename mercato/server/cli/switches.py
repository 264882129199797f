"""Switching categories and tools on and off, and telling every process of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mercato.server.cli.session import read_settings, with_runtime
from mercato.server.cli.terminal import say_either, say_json, say_table

if TYPE_CHECKING:
    from pathlib import Path

    from mercato.server.runtime import Runtime
    from mercato.tenancy.access import Access
    from mercato.tenancy.database import TenantDatabase

Switch = Callable[["TenantDatabase", str], Awaitable[bool]]


def switch(kind: str, name: str, tenant: str, *, on: bool, data_dir: Path | None, as_json: bool) -> None:
    """Switch a category or a tool, in one transaction with its audit entry; every process sees it at its next call."""

    async def work(runtime: Runtime) -> bool:
        from mercato.server.cli.acting import acting

        if on == (kind == "category"):  # what adds a row: a granted category, a tool switched off
            _check_known(runtime, kind, name)
        async with acting(runtime, tenant, f"{kind}.{'enable' if on else 'disable'}", {kind: name}) as act:
            act.changed = await _function(kind, on=on)(act.db, name)
            if not act.changed:  # a row of what is not in the catalogue any more may still be taken away
                _check_known(runtime, kind, name)
            return act.changed

    changed = with_runtime(read_settings(data_dir), work)
    state = "on" if on else "off"
    sentence = f"The {kind} {name} is {state} for {tenant}." if changed else f"The {kind} {name} was {state} already."
    say_either(as_json, {kind: name, "tenant": tenant, "on": on, "changed": changed}, sentence)


def list_switches(kind: str, tenant: str, *, data_dir: Path | None, as_json: bool) -> None:
    """Say what there is, and what of it the tenant has on."""

    async def work(runtime: Runtime) -> list[dict[str, object]]:
        from mercato.tenancy.access import load_access
        from mercato.tenancy.errors import NotFound
        from mercato.tenancy.tenants import find_tenant

        found = await find_tenant(runtime.database, tenant)
        access = await load_access(runtime.database, found.id)
        if access is None:
            raise NotFound(f"There is no tenant {tenant!r}.")
        if kind == "category":
            return [{"category": name, "on": name in access.categories} for name in sorted(runtime.catalog.categories)]
        return [
            {"tool": name, "category": tool.category, "on": _is_on(access, name, tool.category)}
            for name, tool in sorted(runtime.catalog.tools.items())
        ]

    rows = with_runtime(read_settings(data_dir), work)
    if as_json:
        say_json(rows)
    elif rows:
        cells = [[{True: "yes", False: "no"}.get(value, value) for value in row.values()] for row in rows]  # type: ignore[call-overload]
        say_table(f"What {tenant} has on", list(rows[0]), cells)


def _is_on(access: Access, tool: str, category: str) -> bool:
    return category in access.categories and tool not in access.disabled_tools


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
