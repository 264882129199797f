"""`mercato plugin`: what is installed, what is wrong with it, and removing a plugin's data."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from mercato.server.cli.session import AsJson, DataDir, addresses_of, read_settings, started_engines
from mercato.server.cli.terminal import say_either, say_json, say_table, stop

app = typer.Typer(help="List, check and drop plugins.", no_args_is_help=True)


@app.command("list")
def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the plugins: loaded ones, and disabled ones with the reason."""
    from mercato.server.logs import configure_logs
    from mercato.server.runtime import load_plugins

    configure_logs("critical")
    plugins = load_plugins(read_settings(data_dir))
    rows: list[dict[str, Any]] = [
        {
            "plugin": plugin.name,
            "origin": plugin.origin,
            "version": plugin.version,
            "status": "loaded",
            "tools": sum(len(category.tools) for category in plugin.categories),
        }
        for plugin in plugins.loaded.values()
    ]
    rows += [
        {"plugin": failure.plugin, "status": f"disabled at {failure.stage}", "reason": failure.reason}
        for failure in plugins.failures
    ]
    if as_json:
        say_json(rows)
    else:
        columns = ("plugin", "origin", "version", "status", "tools", "reason")
        say_table("Plugins", columns, [[row.get(column) for column in columns] for row in rows])


@app.command("check")
def check(name: Annotated[str, typer.Argument(help="The name of its entry point.")], as_json: AsJson = False) -> None:
    """Load a plugin in a process of its own, and say what is wrong with it."""
    from mercato.plugins.check import check_plugin

    reason = check_plugin(name)
    say_either(
        as_json,
        {"plugin": name, "ok": reason is None, "reason": reason},
        f"{name} is good." if reason is None else f"{name} cannot be loaded: {reason}",
    )
    raise SystemExit(0 if reason is None else 1)


@app.command("drop")
def drop(
    name: Annotated[str, typer.Argument(help="The plugin.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove all data of a plugin, of every tenant: its PostgreSQL schema."""
    settings = read_settings(data_dir)
    if (users := _users_of(name, settings.plugins_blocked)) and not as_json:
        stop(f"{', '.join(users)} would break without {name}: remove or block it first (MERCATO_PLUGINS_BLOCKED).")
    elif users:
        say_json({"plugin": name, "dropped": False, "used_by": users})
        raise SystemExit(1)
    if not yes and not typer.confirm(f"Remove all data of {name}, of every tenant? This cannot be undone.", err=True):
        stop("nothing was removed.")
    with started_engines(settings) as engines:
        from mercato.migrations.runner import drop as drop_schema

        try:
            there = asyncio.run(drop_schema(addresses_of(engines).database_url, name))
        except ValueError as error:
            stop(f"{error}.")
    if not there and name not in _known():
        stop(f"there is no plugin {name!r}, and no data of one.")
    done = f"Removed the data of {name}. Restart the servers that run it: they make its tables anew."
    say_either(as_json, {"plugin": name, "dropped": there}, done if there else f"{name} has no data.")


def _known() -> set[str]:
    from mercato.plugins.manager import discover

    return {found.name for found in discover()}


def _users_of(name: str, blocked: tuple[str, ...]) -> list[str]:
    """Return the loaded plugins whose modules import the victim."""
    from mercato.plugins.dependencies import importers_of
    from mercato.server.logs import configure_logs

    configure_logs("critical")
    return importers_of(name, blocked)
