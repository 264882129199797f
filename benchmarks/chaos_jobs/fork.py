"""A fork: a worker that begins in a process which has imported what all of them need.

Most of what a worker does to start is to import. Where five share two cores with the engines, that takes so long that
nobody could kill one every two seconds and still have most of them at work.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.chaos.mortal import Mortal, Running

_NEEDED = ["mercato.server.cli", "mercato.server.jobs.working", "mercato.server.runtime", "mercato.server.tracing"]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_NEEDED)


class Fork(Mortal):
    """One worker. It is a process of its own in all that matters: its memory, its connections, and its death."""

    async def _launch(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Running:
        ours, theirs = _context.Pipe(duplex=False)
        process = _context.Process(target=_work, args=(list(command), dict(environment), str(log), theirs))
        await asyncio.to_thread(process.start)
        theirs.close()
        return _Forked(process, ours)


class _Forked:
    """A forked process, as one that asyncio started."""

    def __init__(self, process: multiprocessing.process.BaseProcess, said: Connection) -> None:
        self._process = process
        self._said = said

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    async def line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            await _readable(self._said.fileno())
            if not (more := os.read(self._said.fileno(), 65_536)):
                break
            line += more
        return line

    async def wait(self) -> None:
        await _readable(self._process.sentinel)
        self._process.join()
        self._said.close()


async def _readable(descriptor: int) -> None:
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(descriptor)


def _work(command: list[str], environment: dict[str, str], log: str, said: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = command
    os.dup2(said.fileno(), 1)
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), 2)
    from mercato.server.cli import main

    main()
