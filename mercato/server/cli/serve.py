"""`mercato serve`: the server, with its engines and, for a first look, a demonstration tenant."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from mercato.server.cli.session import SET_UP, AsJson, DataDir, addresses_of, read_settings, started_engines
from mercato.server.cli.terminal import say, say_json, stop, tell
from mercato.server.engines import EngineError, Engines

if TYPE_CHECKING:
    from mercato.server.cli.demo import Demo
    from mercato.server.settings import Settings

_WATCH_S = 5
_COLLECT_AFTER = 20_000
_PATIENCE_S = 5
"""How long jobs that run may go on once the server ends; another worker begins them anew."""


def serve(
    demo: Annotated[bool, typer.Option("--demo", help="Make a tenant `demo` with a realistic store.")] = False,
    host: Annotated[str | None, typer.Option(help="The address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on (8765); 0 picks a free one.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Serve MCP over HTTP, until Ctrl-C."""
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = read_settings(data_dir, **given)
    listening = _take_port(settings)
    with started_engines(settings) as engines:
        # The engines start in a process of their own while these imports go on.
        import uvloop

        from mercato.server import app as _app  # noqa: F401  # loaded now, so that it overlaps with the engines
        from mercato.server.logs import configure_logs
        from mercato.server.settings import SettingsError
        from mercato.tenancy.errors import TenancyError

        configure_logs(settings.log_level)
        try:
            uvloop.run(_serve(settings, engines, listening, demo=demo, as_json=as_json))
        except (SettingsError, TenancyError) as error:
            stop(str(error), SET_UP)


def _take_port(settings: Settings) -> socket.socket:
    """Take the port, so that nobody else can. Nobody is answered on it yet: a proxy tries another replica meanwhile."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except socket.gaierror:
        stop(f"{settings.host!r} is no address of this machine: choose another with --host.", SET_UP)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        stop(f"cannot listen on {where} ({error.strerror or error}): choose another with --port, or --port 0.", SET_UP)
    return listening


async def _serve(settings: Settings, engines: Engines, listening: socket.socket, *, demo: bool, as_json: bool) -> None:
    from mercato.server.app import create_app
    from mercato.server.cli.demo import ensure_demo
    from mercato.server.http import HttpServer
    from mercato.server.jobs.working import working
    from mercato.server.runtime import VERSION
    from mercato.server.tracing import open_tracing
    from mercato.server.web.setup import setup_address

    settings = settings.model_copy(update={"port": listening.getsockname()[1]})
    async with AsyncExitStack() as stack:
        tracing = await stack.enter_async_context(open_tracing(os.environ, VERSION))
        addresses = addresses_of(engines)
        app = create_app(settings, addresses, tracing=tracing)
        await stack.enter_async_context(app.router.lifespan_context(app))
        jobs = working(app.state.runtime, settings.job_slots, patience_s=_PATIENCE_S)
        await stack.enter_async_context(jobs)
        shown = await ensure_demo(app.state.runtime, settings.data_dir, tell) if demo else None
        # What was made at start stays: left out of collections, each of them costs a good deal less. Requests leave
        # hardly any cycles behind; looking for them as often as Python does by itself would be a twentieth of a call.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER, 10, 10)
        server = HttpServer(app, max_wait_s=10)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        watching = asyncio.create_task(_watch(engines))
        await server.until_started(serving)
        settings.note_served(app.state.runtime.site.issuer)
        stack.callback(settings.forget_served, app.state.runtime.site.issuer)
        _announce(app.state.runtime.site.url("/mcp"), await setup_address(app.state.runtime), shown, as_json)
        await serving
        watching.cancel()


async def _watch(engines: Engines) -> None:
    """See to it that the engines have a keeper: one that was killed has a successor within seconds."""
    while True:
        await asyncio.sleep(_WATCH_S)
        try:
            await asyncio.to_thread(engines.wait)
        except EngineError as error:
            tell(f"mercato: {error}")


def _announce(url: str, setup: str | None, demo: Demo | None, as_json: bool) -> None:
    if as_json:
        known = {"api_key": demo.api_key, "tenant": demo.tenant} if demo else {}
        say_json({"url": url, **known, **({"setup_url": setup} if setup else {}), "pid": os.getpid()})
        return
    say(f"mercato serves MCP on {url}   (Ctrl-C ends it)")
    if setup:
        say(f"First set-up, once: {setup}")
    key = demo.api_key if demo else "mck_…"
    if demo:
        say(f"Tenant {demo.tenant}, API key {key}")
    say()
    say("Connect by signing in: paste the address into Claude, ChatGPT, Cursor, VS Code or another client, or")
    say(f"  claude mcp add --transport http mercato {url}")
    say("With an API key (`mercato key create --tenant T`), for what cannot sign in:")
    say(f'  claude mcp add --transport http mercato {url} --header "Authorization: Bearer {key}"')
    say(
        "  "
        "npx @modelcontextprotocol/inspector --cli "
        f'{url} --transport http --method tools/list --header "Authorization: Bearer {key}"'
    )
    say(
        f'  {{"mcpServers": {{"mercato": {{"type": "http", "url": "{url}", '
        f'"headers": {{"Authorization": "Bearer {key}"}}}}}}}}'
    )
