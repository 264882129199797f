"""`mercato migrate`: bring the database up to date."""

from __future__ import annotations

import asyncio

from mercato.server.cli.session import AsJson, DataDir, addresses_of, read_settings, started_engines
from mercato.server.cli.terminal import say, say_json


def migrate(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Bring the core's and every plugin's tables up to date; `serve` does so too. Replicas may start together."""
    settings = read_settings(data_dir)
    with started_engines(settings) as engines:
        from mercato.server.logs import configure_logs
        from mercato.server.runtime import load_plugins
        from mercato.server.runtime import migrate as run

        configure_logs("error")
        plugins = load_plugins(settings)
        changed = asyncio.run(run(plugins, addresses_of(engines).database_url))
        failed = {failure.plugin: failure.reason for failure in plugins.failures}
    if as_json:
        say_json({"changed": [name for name, did in changed.items() if did], "failed": failed})
    else:
        for name, did in changed.items():
            say(f"{name}: {'brought up to date' if did else 'was up to date'}")
        for name, reason in failed.items():
            say(f"{name}: disabled ({reason})")
    raise SystemExit(1 if failed else 0)
