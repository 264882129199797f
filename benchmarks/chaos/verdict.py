"""What must hold when it is over, and how that is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks import report

COLUMNS = ("what", "must be", "is", "")


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold."""

    what: str
    must_be: str
    value: int
    good: bool


def exactly(what: str, value: int, wanted: int) -> Check:
    """Return a check of a number that must be another."""
    return Check(what, f"{wanted:,}", value, value == wanted)


def at_most(what: str, value: int, most: int) -> Check:
    """Return a check of a number that must not be above another."""
    return Check(what, f"{most:,} at most", value, value <= most)


def at_least(what: str, value: int, least: int) -> Check:
    """Return a check of a number that must not be below another."""
    return Check(what, f"{least:,} at least", value, value >= least)


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of a run: what it was, what must hold, what was measured, and the first few violations."""

    title: str
    described: str
    checks: Sequence[Check]
    measured: Mapping[str, str]
    violations: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return all(check.good for check in self.checks)

    def show(self, *, as_json: bool) -> None:
        """Print it, for a person or a program."""
        if as_json:
            said = {"ok": self.ok, "run": self.described, "violations": list(self.violations)}
            print(json.dumps(said | {"checks": [asdict(one) for one in self.checks], "measured": dict(self.measured)}))
            return
        console = report.console()
        report.print_table(console, f"{self.title}: {self.described}", COLUMNS, check_rows(self.checks))
        for name, text in self.measured.items():
            console.print(f"{name}: {text}", markup=False, highlight=False)
        for text in self.violations:
            console.print(text, style="red", markup=False, highlight=False)


def check_rows(checks: Sequence[Check]) -> list[Sequence[str]]:
    """Return a row for each check."""
    return [(one.what, one.must_be, f"{one.value:,}", "ok" if one.good else "OFF") for one in checks]
