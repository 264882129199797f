"""Chaos: a random replica of three is killed every few seconds, under clients of every kind.

The clients speak both eras, with sessions and without; they read, write, listen, and follow calls that tell how far
they are. The proxy between sends each request to another replica, and tries one again only where the connection was
refused. Nothing may fail but what was in flight on the victim, and nothing may be done twice.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks.chaos.checks import seen_checks, stored_checks
from benchmarks.chaos.client import Client, Surroundings
from benchmarks.chaos.deployment import Shop, engines_in, environment, install_plugin, make_shops, stored
from benchmarks.chaos.fleet import Fleet
from benchmarks.chaos.journal import Journal
from benchmarks.chaos.kinds import LegacyClient, Listener, ModernClient
from benchmarks.chaos.verdict import Check, Told
from benchmarks.deployment import MERCATO, temporary_folder
from benchmarks.options import between
from tests.conformance.proxy import Proxy

KILL_EVERY_S = 5
_KINDS = (LegacyClient, ModernClient, LegacyClient, Listener, LegacyClient, ModernClient)
_LONGEST_END_S = 60
_QUIET_PORTS = (20_000, 30_000)
"""Below those that clients connect from: one that finds nobody listening must not meet itself."""


def main() -> int:
    """Let there be chaos, report, and return 1 if anything is off."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything started is ended
    for name in [name for name in os.environ if name.startswith("MERCATO_")] + ["DATABASE_URL", "REDIS_URL"]:
        os.environ.pop(name, None)  # nobody's real data
    with temporary_folder() as folder:
        chaos = Chaos(options, folder)
        try:
            checks = asyncio.run(chaos.run())
        except (RuntimeError, OSError) as error:
            Console(stderr=True).print(f"chaos: {error}", style="red", markup=False)
            return 1
        told = _told(options, checks, chaos)
        told.show(as_json=options.json)
    return 0 if told.ok else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=between(10, 600), default=60, help="how long replicas are killed (60)")
    parser.add_argument("--clients", type=between(6, 500), default=50, help="how many clients there are (50)")
    parser.add_argument("--replicas", type=between(2, 9), default=3, help="how many replicas there are (3)")
    parser.add_argument("--seed", type=int, default=1, help="what chance begins with (1)")
    parser.add_argument("--log", type=Path, help="where to keep what the replicas log")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout, for programs")
    return parser.parse_args()


class Chaos:
    """One run, in its own folder."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._chance = random.Random(options.seed)
        self._proxy = Proxy()
        self.journal = Journal()
        self.fleet: Fleet | None = None

    async def run(self) -> list[Check]:
        """Set up, let clients live and replicas die, and look at what is left."""
        data_dir, site = self._folder / "data", self._folder / "site"
        install_plugin(site)
        with engines_in(data_dir) as engines:
            shops = await make_shops(data_dir, engines)
            async with self._proxy.listening() as port:
                surroundings = environment(data_dir, site, port)
                ports, log = _quiet_ports(self._options.replicas), self._options.log or self._folder / "replicas.log"
                fleet = self.fleet = Fleet(self._proxy, [*MERCATO, "serve"], ports, surroundings, log)
                try:
                    await fleet.start()
                    await self._live(fleet, shops, port)
                finally:
                    await fleet.stop()
            checks = list(seen_checks(self.journal, fleet))
            for shop in shops:
                checks += stored_checks(self.journal, shop, await stored(engines, shop))
            return checks

    async def _live(self, fleet: Fleet, shops: Sequence[Shop], port: int) -> None:
        around = Surroundings(port, self._proxy, self.journal, time.monotonic() + self._options.seconds)
        lives = [asyncio.create_task(client.live()) for client in self._clients(around, shops)]
        await fleet.kill_every(KILL_EVERY_S, around.over, self._chance)
        done, hanging = await asyncio.wait(lives, timeout=around.over - time.monotonic() + _LONGEST_END_S)
        for life in hanging:
            life.cancel()
            self.journal.violation("a client never came to its end", life.get_name())
        await asyncio.gather(*hanging, return_exceptions=True)
        for life in done:
            life.result()

    def _clients(self, around: Surroundings, shops: Sequence[Shop]) -> list[Client]:
        clients: list[Client] = []
        for number in range(self._options.clients):
            kind, shop = _KINDS[number % len(_KINDS)], shops[number // len(_KINDS) % len(shops)]
            chance = random.Random(self._chance.random())
            clients.append(kind(around, f"{kind.__name__}-{number}", shop.slug, shop.key, chance))
        return clients

    def measured(self) -> dict[str, str]:
        """Return what happened, in words."""
        assert self.fleet is not None
        starts = sorted(self.fleet.starts_s) or [0.0]
        counted = {what: f"{count:,}" for what, count in sorted(self.journal.happened.items())}
        return {
            "connections that were refused, and tried on another replica": f"{self._proxy.refused:,}",
            "seconds that a replica took to start": f"{starts[0]:.1f} to {starts[-1]:.1f}",
            "seconds that the longest call took": f"{self.journal.longest_s('call'):.1f}",
            **counted,
        }


def _quiet_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        ports: list[int] = []
        for port in random.sample(range(*_QUIET_PORTS), 100):
            probe = stack.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    raise RuntimeError("there are no free ports")


def _told(options: argparse.Namespace, checks: Sequence[Check], chaos: Chaos) -> Told:
    described = (
        f"clients {options.clients}, seconds {options.seconds}, replicas {options.replicas}, seed {options.seed}"
    )
    return Told("Chaos", described, checks, chaos.measured(), chaos.journal.shown)


if __name__ == "__main__":
    raise SystemExit(main())
