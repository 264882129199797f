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
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import sqlalchemy as sa
from rich.console import Console
from sqlmodel import col, select

from benchmarks import report
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
from mercato.tenancy.codes import challenge_of
from mercato.tenancy.database import Database
from tests.server.browser import PASSWORD, Browser

TENANTS = ("acme", "globex")
LOST, LINE_CUT = 0.1, 0.3
"""The share of answers that are lost, and of those the share whose line is cut before they come."""
MOST_LOST_IN_A_ROW = 3
RETRY_S = (1.0, 30.0)
STRAYS_PER_S = 20
SAMPLE = 100
COLUMNS = ("what", "must be", "is", "")
_AT_ONCE = 8
_REDIRECT = "http://127.0.0.1:9123/callback"
_QUIET_PORTS = (20_000, 30_000)
"""Below those that clients connect from: one that finds nobody listening must not meet itself."""


@dataclass(slots=True)
class Connection:
    """One client and what it holds. `signed_out` says why its person would have to sign in again."""

    client_id: str
    refresh_token: str
    access_tokens: list[str]
    signed_out: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold."""

    what: str
    must_be: str
    value: int
    good: bool


@dataclass(slots=True)
class Tally:
    """What happened. `over_restart` are losses before the restart that were mended after it."""

    refreshes: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    mended: int = 0
    over_restart: int = 0
    differed: int = 0
    unanswered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    strays: int = 0
    latencies_ms: list[float] = field(default_factory=list)


def main() -> int:
    """Soak, report, and return 1 if anything is off."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything started is ended
    for name in [name for name in os.environ if name.startswith("MERCATO_")] + ["DATABASE_URL", "REDIS_URL"]:
        os.environ.pop(name, None)  # nobody's real data
    known = facts(LOCK)
    with temporary_folder() as folder:
        soak = Soak(options, folder)
        checks = asyncio.run(soak.run())
    measured = soak.measured()
    _show(options, known, checks, measured)
    return 0 if all(check.good for check in checks) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--grants", type=between(10, 5_000), default=1_000, help="how many clients are let in (1000)")
    parser.add_argument("--seconds", type=between(10, 900), default=130, help="how long they refresh (130)")
    parser.add_argument("--every-seconds", type=between(1, 120), default=10, help="how often each does, about (10)")
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
        self._url = f"http://127.0.0.1:{self._port}"
        self._random = random.Random(options.seed)
        self._tally = Tally()
        self._connections: list[Connection] = []
        self._restarts = 0
        self._losing_all = False
        self._until = 0.0
        self._seconds: dict[str, float] = {}

    async def run(self) -> list[Check]:
        """Set up, let clients in, let them live, and look at what is left."""
        await _make_people(self._folder / "data")
        server = self._serve()
        try:
            await asyncio.to_thread(server.ready)
            limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
            async with httpx.AsyncClient(base_url=self._url, timeout=30, limits=limits) as http:
                await self._let_everybody_in(http)
                self._until = time.monotonic() + self._options.seconds
                restarting = asyncio.create_task(self._restart(server))
                await asyncio.gather(self._stray(http), *(self._live(http, one) for one in self._connections))
                server = await restarting
            return await self._checks()
        finally:
            await asyncio.to_thread(server.stop)

    def _serve(self) -> Process:
        command = [*MERCATO, "serve", "--port", str(self._port), "--json", "--data-dir", str(self._folder / "data")]
        log = self._folder / f"server-{self._restarts}.log"
        return Process(command, cores=os.sched_getaffinity(0), log=log, environment={"MERCATO_LOG_LEVEL": "warning"})

    async def _let_everybody_in(self, http: httpx.AsyncClient) -> None:
        began, gate = time.monotonic(), asyncio.Semaphore(_AT_ONCE)
        async with Browser(self._url) as first, Browser(self._url) as second:
            people = (first, second)
            for slug, person in zip(TENANTS, people, strict=True):
                await person.sign_in(_owner_of(slug))

            async def let_in(number: int) -> Connection:
                async with gate:
                    return await _connect(http, people[number % len(people)], f"{self._url}/mcp", number)

            self._connections = await asyncio.gather(*map(let_in, range(self._options.grants)))
        self._seconds["to let everybody in"] = time.monotonic() - began

    async def _live(self, http: httpx.AsyncClient, connection: Connection) -> None:
        every = self._options.every_seconds
        await self._sleep(self._random.uniform(0, every))
        while time.monotonic() < self._until and connection.signed_out is None:
            await self._refresh(http, connection)
            await self._sleep(every * self._random.uniform(0.5, 1.5))

    async def _refresh(self, http: httpx.AsyncClient, connection: Connection) -> None:
        """Refresh, with the same token until an answer is not lost; all that were answered must be the same."""
        began, restarts, losses, seen = time.monotonic(), self._restarts, 0, ""
        while True:
            lost = losses < MOST_LOST_IN_A_ROW and (self._losing_all or self._random.random() < LOST)
            cut_after_s = self._random.uniform(0, 0.02) if lost and self._random.random() < LINE_CUT else None
            response = await self._ask(http, connection, cut_after_s)
            if response is not None and response.status_code in {400, 401}:
                connection.signed_out = f"{response.text} after {time.monotonic() - began:.0f} s, {losses} lost"
                return
            answer = response.json()["refresh_token"] if response is not None and response.status_code == 200 else ""
            self._tally.differed += bool(seen and answer and answer != seen)
            seen = seen or answer
            if lost:
                losses += 1
                self._tally.lost["dropped" if cut_after_s is None else "line cut"] += 1
                await self._sleep(self._random.uniform(*RETRY_S))
            elif response is None or not answer:
                await asyncio.sleep(self._random.uniform(1, 3))  # nobody is there
            else:
                break
        self._tally.refreshes += 1
        self._tally.mended += losses > 0
        self._tally.over_restart += losses > 0 and self._restarts > restarts
        connection.refresh_token = answer
        connection.access_tokens = [connection.access_tokens[0], response.json()["access_token"]]

    async def _ask(
        self, http: httpx.AsyncClient, connection: Connection, cut_after_s: float | None
    ) -> httpx.Response | None:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": connection.refresh_token,
            "client_id": connection.client_id,
        }
        began = time.perf_counter()
        try:
            async with asyncio.timeout(cut_after_s):
                response = await http.post("/token", data=form)
        except TimeoutError:
            return None
        except httpx.TransportError:
            self._tally.unanswered += 1
            return None
        self._tally.latencies_ms.append((time.perf_counter() - began) * 1000)
        self._tally.statuses[response.status_code] += 1
        return response

    async def _stray(self, http: httpx.AsyncClient) -> None:
        """Register clients that nobody lets in, as some clients do at each of their starts."""
        while time.monotonic() < self._until:
            try:
                await _register(http, "Stray")
                self._tally.strays += 1
            except (httpx.TransportError, RowFailed):
                pass  # the server is being restarted
            await self._sleep(1 / STRAYS_PER_S)

    async def _restart(self, server: Process) -> Process:
        """End the server in the middle, and start it again. What it answers in its last second is lost."""
        await asyncio.sleep(self._options.seconds / 2 - 1)
        self._losing_all = True
        await asyncio.sleep(1)
        began = time.monotonic()
        await asyncio.to_thread(server.stop)
        self._losing_all = False
        self._restarts += 1
        server = self._serve()
        try:
            await asyncio.to_thread(server.ready)
        except BaseException:
            await asyncio.to_thread(server.stop)
            raise
        self._seconds["to restart"] = time.monotonic() - began
        return server

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the end."""
        await asyncio.sleep(max(0.0, min(seconds, self._until - time.monotonic())))

    async def _checks(self) -> list[Check]:
        tally, grants = self._tally, self._options.grants
        signed_out = [one.signed_out for one in self._connections if one.signed_out is not None]
        for reason in signed_out[:5]:
            Console(stderr=True).print(f"signed out: {reason}", style="red", markup=False)
        sample = self._random.sample(self._connections, min(SAMPLE, grants))
        first, last = (sum(self._works(one.access_tokens[at]) for one in sample) for at in (0, -1))
        stored = await _stored(self._folder / "data")
        most_a_grant = int(GRACE.total_seconds() / (self._options.every_seconds / 2)) + 2
        errors = sum(count for status, count in tally.statuses.items() if status not in {200, 400, 401, 503})
        return [
            _exactly("clients that must sign in again", len(signed_out), 0),
            _exactly("grants that stand", stored["standing"], grants),
            _exactly("answers to a retry that differ from the one lost", tally.differed, 0),
            _exactly("answers that are errors of the server", errors, 0),
            _exactly(f"access tokens of {len(sample)} clients that work at /mcp: the latest", last, len(sample)),
            _exactly("the same, from before the restart", first, len(sample)),
            _at_least("answers lost before the restart and fetched after it", tally.over_restart, 1),
            _at_most("clients known", stored["clients"], grants + MOST_UNUSED),
            _at_most("stored answers of one grant", stored["most"], most_a_grant),
            _exactly("stored answers that are not needed any more", stored["old"], 0),
        ]

    def _works(self, token: str) -> bool:
        try:
            request = rpc_request(self._port, "tools/list", {}, MODERN, key=token)
            return bool(check_answer(ask(self._port, request), FIRST_ID)["tools"])
        except RowFailed as error:
            Console(stderr=True).print(f"an access token: {error}", style="red", markup=False)
            return False

    def measured(self) -> dict[str, str]:
        """Return what happened, in words."""
        tally = self._tally
        ordered = sorted(tally.latencies_ms) or [0.0]
        lost = tally.lost.total()
        return {
            "refreshes": f"{tally.refreshes:,}, {tally.refreshes / self._options.seconds:.0f} a second",
            "lost answers": f"{lost:,} of {tally.statuses.total() + tally.lost['line cut']:,}, "
            f"the line cut for {tally.lost['line cut']:,}; {tally.mended:,} refreshes mended by asking again",
            "unanswered": f"{tally.unanswered:,}, while the server was away",
            "latency": f"median {median(ordered):.0f} ms, p99 {ordered[int(len(ordered) * 0.99)]:.0f} ms",
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


async def _connect(http: httpx.AsyncClient, person: Browser, resource: str, number: int) -> Connection:
    """Register a client, let it in as the person signed in, and fetch its tokens."""
    client_id, verifier = await _register(http, f"Soak {number}"), f"{number:043}"
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": _REDIRECT,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        "state": str(number),
        "resource": resource,
    }
    consent = await person.get(f"/authorize?{urlencode(asked)}")
    answer = await person.send(consent, "/authorize", decision="allow")
    given = parse_qs(urlsplit(answer.headers["location"]).query)
    form = {"grant_type": "authorization_code", "code": given["code"][0], "code_verifier": verifier}
    response = await http.post("/token", data={**form, "client_id": client_id, "redirect_uri": _REDIRECT})
    tokens = response.raise_for_status().json()
    return Connection(client_id, tokens["refresh_token"], [tokens["access_token"]])


async def _register(http: httpx.AsyncClient, name: str) -> str:
    metadata = {"client_name": name, "redirect_uris": [_REDIRECT], "token_endpoint_auth_method": "none"}
    response = await http.post("/register", json=metadata)
    if response.status_code != 201:
        raise RowFailed(f"a client could not register: HTTP {response.status_code}: {response.text[:300]}")
    return str(response.json()["client_id"])


async def _stored(data_dir: Path) -> dict[str, int]:
    """Count what the database holds."""
    per_grant = select(sa.func.count().label("rows")).select_from(RefreshAnswer).group_by(col(RefreshAnswer.grant_id))
    newest = sa.func.max(RefreshAnswer.rotated_at).over(partition_by=RefreshAnswer.grant_id)
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
