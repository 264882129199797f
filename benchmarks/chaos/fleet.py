"""The fleet: replicas of one server, of which one after the other is killed and started again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.chaos.mortal import Mortal
from tests.conformance.proxy import Proxy


class Replica(Mortal):
    """A server, behind a port."""

    def __init__(self, command: Sequence[str], port: int, environment: Mapping[str, str], log: Path) -> None:
        super().__init__([*command, "--port", str(port), "--json"], environment, log)
        self.port = port


class Fleet:
    """The replicas behind a proxy. `killed` are those that were."""

    def __init__(
        self, proxy: Proxy, command: Sequence[str], ports: Sequence[int], environment: Mapping[str, str], log: Path
    ) -> None:
        self._proxy = proxy
        self._command = command
        self._environment = environment
        self._log = log
        self.replicas = [self._replica(port) for port in ports]
        self.killed: list[Replica] = []
        self.starts_s: list[float] = []
        self._starting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start all, the first alone: it makes the tables."""
        for replica in self.replicas:
            await replica.start()
        self._proxy.upstreams = list(self.replicas)

    async def kill_every(self, seconds: float, until: float, chance: random.Random) -> None:
        """Kill a random one every so often. One that is the last to serve is spared until another does."""
        due = time.monotonic() + seconds
        while due < until:
            await asyncio.sleep(due - time.monotonic())
            due += seconds
            serving = [replica for replica in self.replicas if replica.is_ready]
            if len(serving) > 1:
                await self._replace(chance.choice(serving))

    async def stop(self) -> None:
        """Let those that are starting come up, then end all."""
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(replica.stop() for replica in self.replicas))

    async def _replace(self, victim: Replica) -> None:
        await victim.kill()
        self.killed.append(victim)
        place, successor = self.replicas.index(victim), self._replica(victim.port)
        self.replicas[place] = self._proxy.upstreams[place] = successor
        task = asyncio.create_task(self._start(successor))
        self._starting.add(task)

    async def _start(self, replica: Replica) -> None:
        began = time.monotonic()
        await replica.start()
        self.starts_s.append(time.monotonic() - began)

    def _replica(self, port: int) -> Replica:
        return Replica(self._command, port, self._environment, self._log)
