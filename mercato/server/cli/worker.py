"""`mercato worker`: works in the background, beside servers or alone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from mercato.server.cli.session import SET_UP, AsJson, DataDir, addresses_of, read_settings, started_engines
from mercato.server.cli.terminal import say, say_json, stop
from mercato.server.engines import Engines

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime
    from mercato.server.settings import Settings


def worker(
    slots: Annotated[int, typer.Option(min=1, max=500, help="How many jobs run at once.")] = 20,
    patience: Annotated[int, typer.Option(min=0, help="How many seconds running jobs get at the end.")] = 30,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Have a page of metrics on this port.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Run jobs in the background, until Ctrl-C. Start as many as you like, anywhere: each job runs in one of them."""
    # Of the environment's port a server on this machine may be in need.
    settings = read_settings(data_dir).model_copy(update={"metrics_port": metrics_port})
    with started_engines(settings) as engines:
        import uvloop

        from mercato.server.logs import configure_logs
        from mercato.server.settings import SettingsError
        from mercato.tenancy.errors import TenancyError

        configure_logs(settings.log_level)
        try:
            uvloop.run(_work(settings, engines, slots, patience, as_json=as_json))
        except (SettingsError, TenancyError) as error:
            stop(str(error), SET_UP)


async def _work(settings: Settings, engines: Engines, slots: int, patience_s: int, *, as_json: bool) -> None:
    from mercato.server.jobs.working import working
    from mercato.server.runtime import VERSION, open_runtime
    from mercato.server.tracing import open_tracing

    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    addresses = addresses_of(engines)
    async with (
        open_tracing(os.environ, VERSION) as tracing,
        open_runtime(settings, addresses, tracing=tracing) as runtime,
        _showing_metrics(settings, runtime),
        working(runtime, slots, patience_s=patience_s) as service,
    ):
        name = service.worker if service is not None else ""
        if as_json:
            say_json({"worker": name, "slots": slots})
        else:
            say(f"mercato works as {name}, on {slots} jobs at once   (Ctrl-C ends it)")
        await ended.wait()


@asynccontextmanager
async def _showing_metrics(settings: Settings, runtime: Runtime) -> AsyncIterator[None]:
    if settings.metrics_port is None:
        yield
        return
    from mercato.server.gauges import watch
    from mercato.server.metrics_page import MetricsPage, serving_metrics

    watch(runtime)
    key = None if settings.metrics_key is None else settings.metrics_key.get_secret_value()
    async with serving_metrics(settings, MetricsPage(runtime.metrics, key)):
        yield
