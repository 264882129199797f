"""Soak: connected clients refresh, lose answers, and live through a restart. `python -m benchmarks.soak --help`.

Every client registers itself, a person of one of two tenants lets it in, and from then on it refreshes every few
seconds. One answer in ten is lost: dropped when it is there, or the line is cut before. The client then asks again with
the token that it still has. In the middle the server is ended and started again, its engines with it. Meanwhile strays
register that nobody ever lets in. Nobody may have to sign in again, and no table may grow without end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from sqlmodel import col, select

from benchmarks import report
from benchmarks.connections import Connection, Life, Tally, connect, signed_in
from benchmarks.deployment import MERCATO, temporary_folder
from benchmarks.load import ask
from benchmarks.machine import facts
from benchmarks.options import between
from benchmarks.peers import LOCK
from benchmarks.process import Process
from benchmarks.wire import FIRST_ID, MODERN, RowFailed, check_answer, rpc_request
from mercato.server.engines import Engines
from mercato.tenancy.client_grants import GRACE, ClientGrant, RefreshAnswer
from mercato.tenancy.clients import MOST_UNUSED, OAuthClient
from mercato.tenancy.database import Database
from tests.server.browser import PASSWORD

TENANTS = ("acme", "globex")
SAMPLE = 100
COLUMNS = ("what", "must be", "is", "")
_AT_ONCE = 8
_QUIET_PORTS = (20_000, 30_000)
"""Below those that clients connect from: one that finds nobody listening must not meet itself."""


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold."""

    what: str
    must_be: str
    value: int
    good: bool


def main() -> int:
    """Soak, report, and return 1 if anything is off."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything started is ended
    for name in [name for name in os.environ if name.startswith("MERCATO_")] + ["DATABASE_URL", "REDIS_URL"]:
        os.environ.pop(name, None)  # nobody's real data
    known = facts(LOCK)
    with temporary_folder() as folder:
        soak = Soak(options, folder)
        try:
            checks = asyncio.run(soak.run())
        except (RowFailed, OSError) as error:
            _complain(f"soak: {error}")
            return 1
    measured = soak.measured()
    _show(options, known, checks, measured)
    return 0 if all(check.good for check in checks) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--grants", type=between(10, 5_000), default=1_000, help="how many clients are let in (1000)")
    parser.add_argument(
        "--seconds", type=between(10, 900), default=80, help="how long they refresh once all are in (80)"
    )
    parser.add_argument("--every-seconds", type=between(1, 120), default=15, help="how often each does, about (15)")
    parser.add_argument("--seed", type=int, default=1, help="what chance begins with (1)")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout, for programs")
    parser.add_argument("--write-results", action="store_true", help="rewrite the soak in benchmarks/README.md")
    return parser.parse_args()


class Soak:
    """One run, in its own folder."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._port = _quiet_port()
        self._server: Process | None = None
        self._connections: list[Connection] = []
        self._life: Life | None = None
        self._seconds: dict[str, float] = {}

    async def run(self) -> list[Check]:
        """Set up, let clients in, let them live, and look at what is left."""
        await _make_people(self._folder / "data")
        try:
            await self._serve("first")
            life = self._life = Life(self._port, self._options.every_seconds, self._options.seed)
            lives = await self._let_everybody_in(life)
            life.end = time.monotonic() + self._options.seconds
            await asyncio.gather(self._restart(life), life.stray(), *lives)
            return await self._checks(life.tally)
        finally:
            if self._server is not None:
                await asyncio.to_thread(self._server.stop)

    async def _serve(self, name: str) -> None:
        """Start the server, on the port and the data that it had before."""
        command = [*MERCATO, "serve", "--port", str(self._port), "--json", "--data-dir", str(self._folder / "data")]
        log, quiet = self._folder / f"{name}.log", {"MERCATO_LOG_LEVEL": "warning"}
        self._server = Process(command, cores=os.sched_getaffinity(0), log=log, environment=quiet)
        await asyncio.to_thread(self._server.ready)

    async def _let_everybody_in(self, life: Life) -> list[asyncio.Task[None]]:
        """Let the clients in, some at a time; return the life of each, which begins at once."""
        began, gate = time.monotonic(), asyncio.Semaphore(_AT_ONCE)
        resource = f"http://127.0.0.1:{self._port}/mcp"
        async with AsyncExitStack() as stack:
            people = [await stack.enter_async_context(signed_in(self._port, _owner_of(slug))) for slug in TENANTS]

            async def let_in(number: int) -> asyncio.Task[None]:
                async with gate:
                    connection = await connect(self._port, people[number % len(people)], resource, number)
                self._connections.append(connection)
                return asyncio.create_task(life.live(connection))

            lives = await asyncio.gather(*map(let_in, range(self._options.grants)))
        self._seconds["to let everybody in"] = time.monotonic() - began
        return lives

    async def _restart(self, life: Life) -> None:
        """End the server in the middle, and start it again. What it answers in its last second is lost."""
        assert self._server is not None
        await asyncio.sleep(self._options.seconds / 2 - 1)
        life.losing_all = True
        await asyncio.sleep(1)
        began = time.monotonic()
        await asyncio.to_thread(self._server.stop)
        life.losing_all = False
        life.restarts += 1
        await self._serve("second")
        self._seconds["to restart"] = time.monotonic() - began

    async def _checks(self, tally: Tally) -> list[Check]:
        grants, seconds = self._options.grants, self._options.every_seconds
        signed_out = [one.signed_out for one in self._connections if one.signed_out is not None]
        for reason in signed_out[:5]:
            _complain(f"a client must sign in again: {reason}")
        sample = random.Random(self._options.seed).sample(self._connections, min(SAMPLE, grants))
        latest = sum(_works(self._port, one.access_token) for one in sample)
        first = sum(_works(self._port, one.first_access_token) for one in sample)
        stored = await _stored(self._folder / "data")
        errors = sum(count for status, count in tally.statuses.items() if status not in {200, 400, 401, 503})
        return [
            _exactly("clients that must sign in again", len(signed_out), 0),
            _exactly("grants that stand", stored["standing"], grants),
            _at_least("answers lost before the restart, fetched after it", tally.over_restart, 1),
            _exactly("answers to a retry that differ from the lost one", tally.differed, 0),
            _exactly("answers that are errors of the server", errors, 0),
            _exactly(f"of {len(sample)} clients' access tokens, good at /mcp", latest, len(sample)),
            _exactly("the same, of those from before the restart", first, len(sample)),
            _at_most("clients known", stored["clients"], grants + MOST_UNUSED),
            _at_most("stored answers of one grant", stored["most"], int(GRACE.total_seconds() / seconds * 2) + 2),
            _exactly("stored answers that are too old to be needed", stored["old"], 0),
        ]

    def measured(self) -> dict[str, str]:
        """Return what happened, in words."""
        assert self._life is not None
        tally = self._life.tally
        ordered = sorted(tally.latencies_ms) or [0.0]
        asked = tally.statuses.total() + tally.cut + tally.unanswered
        return {
            "refreshes": f"{tally.refreshes:,}",
            "lost answers": f"{tally.dropped + tally.cut:,} of {asked:,}; for {tally.cut:,} of them the line was cut",
            "mended": f"{tally.mended:,} refreshes, by asking again with the same token",
            "unanswered": f"{tally.unanswered:,}, most of them while the server was away",
            "answers": ", ".join(f"{count:,} of HTTP {status}" for status, count in sorted(tally.statuses.items())),
            "latency": f"median {median(ordered):.0f} ms, p99 {ordered[int(len(ordered) * 0.99)]:,.0f} ms",
            "strays": f"{tally.strays:,} clients registered that nobody let in",
            "seconds": ", ".join(f"{seconds:.1f} {what}" for what, seconds in self._seconds.items()),
        }


async def _make_people(data_dir: Path) -> None:
    """Make the tenants, and give their owners a password."""
    from mercato.server.runtime import Addresses, open_runtime
    from mercato.server.settings import Settings
    from mercato.tenancy.accounts import find_account, set_password
    from mercato.tenancy.onboarding import onboard_tenant

    with _engines(data_dir) as engines:
        addresses = Addresses(engines.database_url, engines.redis_url)
        async with open_runtime(Settings(data_dir=data_dir), addresses) as runtime:
            categories = [category.name for category in runtime.catalog.categories.values()]
            for slug in TENANTS:
                owner = _owner_of(slug)
                await onboard_tenant(runtime.database, slug, slug.title(), owner_email=owner, categories=categories)
                account = await find_account(runtime.database, owner)
                await set_password(runtime.database, runtime.passwords, account.user_id, PASSWORD)


def _owner_of(slug: str) -> str:
    return f"owner@{slug}.example"


@contextmanager
def _engines(data_dir: Path) -> Iterator[Engines]:
    engines = Engines(data_dir)
    engines.start()
    try:
        engines.wait()
        yield engines
    finally:
        engines.stop()


def _works(port: int, token: str) -> bool:
    """Whether an access token is good: the tools are listed."""
    try:
        answered = ask(port, rpc_request(port, "tools/list", {}, MODERN, key=token))
        return bool(check_answer(answered, FIRST_ID)["tools"])
    except RowFailed as error:
        _complain(f"an access token is not good: {error}")
        return False


def _complain(text: str) -> None:
    Console(stderr=True).print(text, style="red", markup=False)


async def _stored(data_dir: Path) -> dict[str, int]:
    """Count what the database holds."""
    per_grant = select(sa.func.count().label("rows")).select_from(RefreshAnswer).group_by(col(RefreshAnswer.grant_id))
    newest = sa.func.max(RefreshAnswer.rotated_at).over(partition_by=col(RefreshAnswer.grant_id))
    ages = select((newest - col(RefreshAnswer.rotated_at)).label("age")).subquery()
    counts: dict[str, Any] = {
        "clients": select(sa.func.count()).select_from(OAuthClient),
        "standing": select(sa.func.count()).select_from(ClientGrant).where(col(ClientGrant.revoked_at).is_(None)),
        "most": select(sa.func.coalesce(sa.func.max(per_grant.subquery().c.rows), 0)),
        "old": select(sa.func.count()).select_from(ages).where(ages.c.age > GRACE),
    }
    with _engines(data_dir) as engines:
        database = Database(engines.database_url)
        try:
            async with database.system() as session:
                return {name: int((await session.exec(count)).one()) for name, count in counts.items()}
        finally:
            await database.close()


def _quiet_port() -> int:
    for port in random.sample(range(*_QUIET_PORTS), 50):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("there is no free port")


def _exactly(what: str, value: int, wanted: int) -> Check:
    return Check(what, f"{wanted:,}", value, value == wanted)


def _at_most(what: str, value: int, most: int) -> Check:
    return Check(what, f"{most:,} at most", value, value <= most)


def _at_least(what: str, value: int, least: int) -> Check:
    return Check(what, f"{least:,} at least", value, value >= least)


def _show(
    options: argparse.Namespace, known: dict[str, str], checks: Sequence[Check], measured: dict[str, str]
) -> None:
    good = all(check.good for check in checks)
    rows = [(one.what, one.must_be, f"{one.value:,}", "ok" if one.good else "OFF") for one in checks]
    described = f"grants {options.grants}, seconds {options.seconds}, every_seconds {options.every_seconds}"
    described += f", seed {options.seed}"
    if options.json:
        said = {"ok": good, "facts": known | {"run": described}, "checks": [asdict(one) for one in checks]}
        print(json.dumps(said | {"measured": measured}))
    else:
        console = report.console()
        report.print_table(console, f"Soak: {described}", COLUMNS, rows)
        for name, text in measured.items():
            console.print(f"{name}: {text}", markup=False, highlight=False)
    if options.write_results:
        happened = "".join(f"- {name}: {text}\n" for name, text in measured.items())
        table = report.markdown_table(COLUMNS, rows)
        report.write_section("soak", report.markdown_facts(known, described) + table + "\n" + happened)


if __name__ == "__main__":
    raise SystemExit(main())
