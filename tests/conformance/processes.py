"""Processes that are never left behind: whatever ends the wait for one ends it too."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_LONGEST_END_S = 30


class CommandFailed(Exception):
    """A command that had to succeed did not; the text says which, and what it said last."""


@asynccontextmanager
async def process(
    command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None, reads: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command, its standard error in `log`, for as long as the block lasts. One that `reads` has an input."""
    stdin = subprocess.PIPE if reads else subprocess.DEVNULL
    with log.open("ab") as errors:
        running = await asyncio.create_subprocess_exec(
            *command, stdin=stdin, stdout=subprocess.PIPE, stderr=errors, env=env, start_new_session=True
        )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            running.terminate()
        try:
            async with asyncio.timeout(_LONGEST_END_S):
                await running.wait()
        except TimeoutError:
            running.kill()
            await running.wait()


async def output_of(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    ends_with: Sequence[int] = (0,),
    timeout_s: float = 120,
    given: str | None = None,
) -> str:
    """Run a command to its end, with `given` to read, and return what it wrote. Raises `CommandFailed`."""
    async with process(command, log=log, env=env, reads=given is not None) as running:
        try:
            async with asyncio.timeout(timeout_s):
                written, _ = await running.communicate(None if given is None else given.encode())
        except TimeoutError:
            raise CommandFailed(f"{_shown(command)} did not end in {timeout_s:g} s; see {log}") from None
    if running.returncode not in ends_with:
        raise CommandFailed(f"{_shown(command)} ended with {running.returncode}; see {log}")
    return written.decode()


def _shown(command: Sequence[str | Path]) -> str:
    return " ".join([Path(command[0]).name, *map(str, command[1:])])
