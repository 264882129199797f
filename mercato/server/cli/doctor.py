"""`mercato doctor`: what this machine has, and what stands in the way; `doctor connector` looks from outside."""

from __future__ import annotations

import asyncio
import platform
import socket
import sys
from typing import TYPE_CHECKING

import typer

from mercato.server.cli.connector import connector
from mercato.server.cli.session import AsJson, DataDir, engines_of, read_settings
from mercato.server.cli.terminal import say, say_json
from mercato.server.engines import EngineError

if TYPE_CHECKING:
    from mercato.server.engines import Engines
    from mercato.server.settings import Settings

Finding = tuple[str, bool, str]

app = typer.Typer(invoke_without_command=True)
app.command("connector")(connector)


@app.callback()
def doctor(ctx: typer.Context, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Look at everything that `serve` needs, and say what is wrong and how to mend it."""
    if ctx.invoked_subcommand is not None:
        return
    settings = read_settings(data_dir)
    engines = engines_of(settings)
    findings = [_python(), _port(settings), _keys(settings), *engines.report(), *_started(settings, engines)]
    if as_json:
        say_json([{"check": check, "ok": ok, "message": message} for check, ok, message in findings])
    else:
        for check, ok, message in findings:
            say(f"{'ok  ' if ok else 'BAD '} {check}: {message}")
    raise SystemExit(0 if all(ok for _, ok, _ in findings) else 2)


def _python() -> Finding:
    version = platform.python_version()
    return "Python", sys.version_info >= (3, 11), f"{version} (3.11 or newer is needed)"


def _port(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    with socket.socket() as probe:
        probe.settimeout(1)
        taken = settings.port != 0 and probe.connect_ex((settings.host, settings.port)) == 0
    if taken:
        return "port", True, f"something listens on {where} already; if it is not mercato, choose another with --port"
    return "port", True, f"{where} is free"


def _keys(settings: Settings) -> Finding:
    from mercato.server.settings import SettingsError
    from mercato.tenancy.errors import TenancyError

    if settings.secret_keys is None and not (settings.data_dir / "secret.key").exists():
        return "secret keys", True, "none yet: one is made at the first start"
    try:
        settings.key_ring()
    except (SettingsError, TenancyError, OSError) as error:
        return "secret keys", False, str(error)
    return "secret keys", True, "they can be read"


def _started(settings: Settings, engines: Engines) -> list[Finding]:
    """Start the engines as `serve` would, and ask them."""
    try:
        engines.start()
        engines.wait()
        return asyncio.run(_answers(engines)) + _plugins(settings)
    except EngineError as error:
        return [("engines", False, str(error))]
    finally:
        engines.stop()


async def _answers(engines: Engines) -> list[Finding]:
    from mercato.server.reachable import check_database, check_redis

    findings: list[Finding] = []
    for name, check, url in (
        ("PostgreSQL", check_database, engines.database_url),
        ("Redis", check_redis, engines.redis_url),
    ):
        try:
            findings.append((name, True, f"version {await check(url)} answers"))
            if name == "PostgreSQL":
                findings.append(await _rights(url))
        except EngineError as error:
            findings.append((name, False, str(error)))
    return findings


async def _rights(url: str) -> Finding:
    from mercato.server.reachable import may_migrate

    if await may_migrate(url):
        return "rights", True, "its user may make roles and schemas"
    return "rights", False, "its user must own the database and be allowed to make roles (CREATEROLE)"


def _plugins(settings: Settings) -> list[Finding]:
    from mercato.server.logs import configure_logs
    from mercato.server.runtime import load_plugins

    configure_logs("critical")
    plugins = load_plugins(settings)
    loaded: list[Finding] = [("plugins", True, f"loaded: {', '.join(plugins.loaded)}")]
    return loaded + [
        (f"plugin {failure.plugin}", False, f"disabled at {failure.stage}: {failure.reason}")
        for failure in plugins.failures
    ]
