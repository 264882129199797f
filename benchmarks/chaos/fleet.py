"""The fleet: replicas of one server, of which one after the other is killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conformance.proxy import Proxy

_READY_S, _END_S = 90, 30


class Replica:
    """One process. It is killed at most once: who comes after it on its port is another."""

    def __init__(self, command: Sequence[str], port: int, environment: Mapping[str, str], log: Path) -> None:
        self.port = port
        self.is_ready = False
        self.killed_at: float | None = None
        self._is_to_end = False
        self._command = [*command, "--port", str(port), "--json"]
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it serves. Raises `RuntimeError`."""
        with self._log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(_READY_S):
            if not await self._process.stdout.readline():
                raise RuntimeError(f"a replica did not start: {self._log.read_text()[-1_000:]}")
        self.is_ready = True

    async def kill(self) -> None:
        """End it as a power cut would; return when it is gone."""
        assert self._process is not None
        self.is_ready, self._is_to_end, self.killed_at = False, True, time.monotonic()
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """End it as an operator would."""
        if self._process is None or self._process.returncode is not None:
            return
        self._is_to_end = True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @property
    def has_crashed(self) -> bool:
        """Whether it ended without anybody having ended it."""
        return self._process is not None and self._process.returncode is not None and not self._is_to_end


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
