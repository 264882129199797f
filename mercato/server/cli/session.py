"""How a command comes by its parts: settings from the environment, engines, and the runtime over them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mercato.server.cli.terminal import stop
from mercato.server.engines import EngineError, Engines

if TYPE_CHECKING:
    from mercato.server.runtime import Addresses, Runtime
    from mercato.server.settings import Settings

Result = TypeVar("Result")

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where data lives; else MERCATO_DATA_DIR, else the system's place.")
]
TenantSlug = Annotated[str, typer.Option("--tenant", help="The tenant's slug.")]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON on stdout, for programs.")]

SET_UP = 2
"""Exit code where something on this machine must be mended first."""


def read_settings(data_dir: Path | None = None, **values: Any) -> Settings:
    """Read the settings; what the command line says comes before the environment."""
    from mercato.server.settings import Settings, SettingsError

    if data_dir is not None:
        values["data_dir"] = data_dir
    try:
        return Settings(**values)
    except SettingsError as error:
        stop(str(error), SET_UP)


def engines_of(settings: Settings) -> Engines:
    """Return the engines that these settings ask for; nothing is started yet."""
    return Engines(
        settings.data_dir,
        database_url=settings.database_url.get_secret_value() if settings.database_url else None,
        redis_url=settings.redis_url.get_secret_value() if settings.redis_url else None,
        run_as=settings.run_as,
    )


@contextmanager
def started_engines(settings: Settings) -> Iterator[Engines]:
    """Start the engines, or join those of a server that runs; leave them at the end."""
    engines = engines_of(settings)
    try:
        engines.start()
        yield engines
    except EngineError as error:
        stop(str(error), SET_UP)
    finally:
        engines.stop()


def addresses_of(engines: Engines, *, redis_needed: bool = True) -> Addresses:
    """Wait for the engines and return where they are; what can do without Redis does not wait long for it."""
    from mercato.server.runtime import Addresses

    engines.wait(redis_needed=redis_needed)
    return Addresses(engines.database_url, engines.redis_url)


def with_runtime(settings: Settings, work: Callable[[Runtime], Awaitable[Result]]) -> Result:
    """Run a command's work over a runtime. What it refuses becomes a sentence and exit code 1."""
    with started_engines(settings) as engines:
        # The engines start in a process of their own while these imports go on.
        from mercato.server.logs import configure_logs
        from mercato.server.oauth.errors import OAuthError
        from mercato.server.runtime import open_runtime
        from mercato.server.settings import SettingsError
        from mercato.tenancy.errors import TenancyError

        configure_logs("error" if settings.log_level == "info" else settings.log_level)

        async def main() -> Result:
            addresses = addresses_of(engines, redis_needed=False)
            async with open_runtime(settings, addresses, redis_needed=False) as runtime:
                return await work(runtime)

        try:
            return asyncio.run(main())
        except (TenancyError, OAuthError) as error:
            stop(str(error))
        except SettingsError as error:
            stop(str(error), SET_UP)
