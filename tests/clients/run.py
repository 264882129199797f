"""Runs foreign clients against a demonstration server of its own, and says what each could do."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.clients import signing_in, with_key
from tests.clients.commands import VISITS, install
from tests.clients.store import Store, served


@dataclass(frozen=True)
class Attempt:
    """What one client could do."""

    client: str
    way: str
    tools: int
    rows: int
    error: str | None = None

    @property
    def good(self) -> bool:
        return self.error is None


def attempts(store: Store) -> Iterator[Attempt]:
    """Run them all, one after the other."""
    for name, client in with_key.CLIENTS.items():
        yield attempt(name, "with a key", client, store, store.everything, visits=0)
    for name, client in signing_in.CLIENTS.items():
        yield attempt(name, "signed in", client, store, store.ticked, visits=1)


def attempt(
    name: str, way: str, client: with_key.Client, store: Store, expected: frozenset[str], *, visits: int
) -> Attempt:
    """Run a client in a home of its own; it may send the person to a browser as often as is said, and no more."""
    VISITS.write_text("")
    with tempfile.TemporaryDirectory(prefix="mercato-client-") as home:
        try:
            seen = client(store, Path(home))
        except Exception as error:  # noqa: BLE001  # whatever one client does, the next ones have their turn
            return Attempt(name, way, 0, 0, f"{type(error).__name__}: {error}\n{VISITS.read_text()[-400:]}".strip())
    shown = f"{name} ({seen.version})" if seen.version else name
    return Attempt(shown, way, len(seen.tools), seen.rows, seen.fault(expected) or _fault_of_visits(visits))


def _fault_of_visits(expected: int) -> str | None:
    lines = VISITS.read_text().splitlines()
    good = len(lines) == expected and all(line.startswith("allowed ") for line in lines)
    return None if good else f"the person was to come {expected} times: {lines}"


def main() -> int:
    """Run them, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    as_json = parser.parse_args().json
    install()
    done = []
    with served() as store:
        for one in attempts(store):
            done.append(one)
            if not as_json:
                words = f"{one.tools} tools, {one.rows} row" if one.good else one.error
                print(f"{'ok  ' if one.good else 'BAD '} {one.client}, {one.way}: {words}", flush=True)
    if as_json:
        print(json.dumps([{**asdict(one), "good": one.good} for one in done]))
    return 0 if all(one.good for one in done) else 1


if __name__ == "__main__":
    raise SystemExit(main())
