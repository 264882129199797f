"""Profile: where the time of a call goes inside mercato. `python -m benchmarks.profile --help`.

The application runs in this process, with its engines and everything on, and is handed requests as uvicorn hands them
over, 32 at a time; the socket and uvicorn are not in it. cProfile makes Python dearer than C, so the shares say where
to look and not how much is to be had; what the whole costs is what `benchmarks.calls` measures.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import os
import pstats
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from benchmarks import report
from benchmarks.deployment import Deployment, deployed, environment
from benchmarks.machine import facts
from benchmarks.options import between
from benchmarks.peers import LOCK
from benchmarks.plugin.mercato_bench.shape import ARGUMENTS, CATALOGUE, MEASURED
from benchmarks.wire import FIRST_ID, MODERN, rpc_request

PARTS: Sequence[tuple[str, Sequence[str]]] = (
    ("what the tool does, and its answer as a model", ("mercato_bench",)),
    ("reading the request: headers, JSON, envelope", ("server/mcp/plain.py", "server/mcp/exchange.py:pieces_of")),
    ("who calls", ("server/auth/",)),
    ("limits", ("server/limits/", "server/guard.py:take", "server/guard.py:limits")),
    ("usage, admissions, metrics", ("server/usage/", "tenancy/usage.py", "server/metrics", "server/guard.py")),
    ("the line of the log", ("server/logs.py", "fast.py:_note", "server/middleware.py")),
    ("arguments checked", ("tools/arguments.py", "tools/tool.py:parse")),
    ("the answer as JSON", ("tools/tool.py", "tools/outcome.py", "call.py:_serialised", "call.py:_answer")),
    ("time-out, watching the client", ("tools/moments.py", "tools/context.py:Clock", "exchange.py:begin")),
    ("rows by the fast way", ("tenancy/reads.py", "tenancy/database.py")),
    ("the way from the lane to the tool and back", ("mercato/",)),
    ("asyncio, uvloop", ("asyncio/", "uvloop/", "_weakrefset.py")),
    ("writing usage to PostgreSQL", ("sqlalchemy/", "sqlmodel/", "greenlet")),
    ("asyncpg", ("asyncpg/",)),
    ("Redis's client", ("redis/",)),
)
REST = "all else"
COLUMNS = ("part", "largest function", "share of own time")
_AT_ONCE = 32
Function = tuple[str, int, str]


def main() -> int:
    """Profile and report."""
    options = _options()
    known = facts(LOCK)
    with (
        deployed(min(os.sched_getaffinity(0))) as deployment,
        Path(os.devnull).open("w") as nowhere,
        redirect_stderr(nowhere),  # where the log goes
    ):
        stats = uvloop.run(_profiled(deployment, options.requests))
    rows = _rows(stats)
    report.print_table(report.console(), f"A call, by cProfile over {options.requests:,} of them", COLUMNS, rows)
    if options.write_results:
        described = f"requests {options.requests}, at once {_AT_ONCE}"
        report.write_section("profile", report.markdown_facts(known, described) + report.markdown_table(COLUMNS, rows))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--requests", type=between(1_000, 200_000), default=20_000, help="how many (20,000)")
    parser.add_argument("--write-results", action="store_true", help="rewrite the profile in benchmarks/README.md")
    return parser.parse_args()


async def _profiled(deployment: Deployment, requests: int) -> pstats.Stats:
    sys.path.insert(0, str(deployment.plugins))
    os.environ.update(environment(deployment.plugins, CATALOGUE, orders=False))
    from mercato.server.app import create_app
    from mercato.server.logs import configure_logs
    from mercato.server.runtime import Addresses
    from mercato.server.settings import Settings

    configure_logs("info")
    settings = Settings(data_dir=deployment.folder / "data")
    engines = deployment.engines
    app = create_app(settings, Addresses(engines.database_url, engines.redis_url))
    async with app.router.lifespan_context(app):
        ask = _asking(app, deployment.key, settings.port)
        await _ask_many(ask, 2_000)
        gc.collect()
        gc.freeze()
        profile = cProfile.Profile()
        profile.enable()
        await _ask_many(ask, requests)
        profile.disable()
    return pstats.Stats(profile)


def _asking(app: Callable[..., Awaitable[None]], key: str, port: int) -> Callable[[], Awaitable[None]]:
    """Return what makes one call, as uvicorn would hand it over."""
    parameters = {"name": MEASURED, "arguments": ARGUMENTS}
    head, _, body = rpc_request(port, "tools/call", parameters, MODERN, key=key).render(FIRST_ID).partition(b"\r\n\r\n")
    lines = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:]]
    headers = [(name.lower(), value) for name, value in lines]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    def answer(scope: Any, status: int, lines: bytes, pieces: Sequence[bytes]) -> bool:
        if status != 200 or not any(b'"isError":false' in piece for piece in pieces):
            raise RuntimeError(f"the call failed: {b''.join(pieces)[:300]!r}")
        return True

    async def send(message: Any) -> None:
        raise RuntimeError("the call did not go by the lane")

    async def ask() -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/mcp",
            "raw_path": b"/mcp",
            "query_string": b"",
            "root_path": "",
            "state": {},
            "headers": list(headers),
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", port),
            "extensions": {"mercato.answer": answer, "mercato.transport": _Open()},
        }
        await app(scope, receive, send)

    return ask


class _Open:
    """A connection whose other end is there."""

    def is_closing(self) -> bool:
        return False


async def _ask_many(ask: Callable[[], Awaitable[None]], requests: int) -> None:
    for _ in range(requests // _AT_ONCE):
        await asyncio.gather(*(ask() for _ in range(_AT_ONCE)))


def _rows(stats: pstats.Stats) -> list[tuple[str, str, str]]:
    spent, largest = Counter[str](), dict[str, Counter[str]]()
    own: dict[Function, tuple[int, int, float, float, dict[Function, tuple[int, int, float, float]]]] = stats.stats  # type: ignore[attr-defined]  # not in the stubs
    for function, (_, _, seconds, _, callers) in own.items():
        if function[0] == "~" and callers:  # what is written in C counts where it was called
            for caller, (_, _, of_caller, _) in callers.items():
                _add(spent, largest, caller, of_caller)
        else:
            _add(spent, largest, function, seconds)
    whole = spent.total()
    return [
        (part, largest[part].most_common(1)[0][0], f"{seconds / whole:.1%}") for part, seconds in spent.most_common()
    ]


def _add(spent: Counter[str], largest: dict[str, Counter[str]], function: Function, seconds: float) -> None:
    file, _, name = function
    place = f"{file}:{name}"
    part = next((label for label, marks in PARTS if any(mark in place for mark in marks)), REST)
    spent[part] += seconds
    shown = f"{Path(file).parent.name}/{Path(file).name}: {name}" if file not in {"~", ""} else name
    largest.setdefault(part, Counter())[f"`{shown}`"] += seconds


if __name__ == "__main__":
    Console(stderr=True).print("profiling", highlight=False)
    raise SystemExit(main())
