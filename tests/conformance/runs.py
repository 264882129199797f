"""The runs of the suite, and the verdict: nothing may fail."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from authorization import output_while_signing_in
from processes import CommandFailed, output_of
from subject import Subject

_SUMMARY = re.compile(r"^[✓✗] (?P<scenario>\S+): (?P<passed>\d+) passed, (?P<failed>\d+) failed", re.MULTILINE)
_ANNOUNCED = re.compile(r"^Running .*\((\d+) scenarios\)", re.MULTILINE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_RUN_S = 600


@dataclass(frozen=True)
class Run:
    """One run: a version of the suite, what it takes the server for, and the scenarios to ask it for.

    A run with `all_must_pass` fails for warnings and for skipped checks as well.
    """

    name: str
    package: str
    scenarios: tuple[str, ...] = ()
    role: Literal["server", "authorization"] = "server"
    all_must_pass: bool = False


RUNS = (
    Run("0.1.16", "conformance-0-1", ("--suite", "all")),
    Run("2025-11-25", "conformance-0-2", ("--requirements", "2025-11-25")),
    Run("2026-07-28", "conformance-0-2", ("--requirements", "2026-07-28")),
    Run("all", "conformance-0-2", ("--suite", "all")),
    Run("authorization", "conformance-0-2", role="authorization", all_must_pass=True),
)


@dataclass(frozen=True)
class Verdict:
    """What came of a run. Checks are counted; scenarios are named."""

    run: str
    passed: int
    failed: int
    scenarios: int
    failures: tuple[str, ...]
    warned: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing has failed."""
        return not self.failures


async def run_suite(run: Run, node: Path, packages: Path, subject: Subject, results: Path) -> Verdict:
    """Run the suite; keep what it wrote in `results`. Raises `CommandFailed` where it did not finish."""
    folder = results / run.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    program: list[str | Path] = [node, packages / run.package / "dist" / "index.js", run.role]
    if run.role == "authorization":
        output = await output_while_signing_in(program, subject, folder)
    else:
        command = [*program, "--url", subject.open_url, *run.scenarios, "-o", folder]
        log = folder / "errors.log"
        output = await output_of(command, log=log, ends_with=(0, 1), timeout_s=_LONGEST_RUN_S)
    written = _COLOUR.sub("", output)
    (folder / "output.txt").write_text(written)
    return _verdict(run, written, folder)


def _verdict(run: Run, written: str, folder: Path) -> Verdict:
    lines = {found["scenario"]: found for found in _SUMMARY.finditer(written)}
    announced = _ANNOUNCED.search(written)
    if announced is None or int(announced[1]) != len(lines):
        raise CommandFailed(f"the run {run.name} did not come to its end; see {folder}")
    checks = list(_checks(folder))
    failed = {scenario for scenario, found in lines.items() if int(found["failed"])}
    if run.all_must_pass:
        checked = {scenario for scenario, _ in checks}
        failed |= {scenario for scenario, check in checks if _is_bad(run, check)} | (lines.keys() - checked)
    warned = {scenario for scenario, check in checks if check["status"] == "WARNING"}
    return Verdict(
        run=run.name,
        passed=sum(int(found["passed"]) for found in lines.values()),
        failed=sum(int(found["failed"]) for found in lines.values()),
        scenarios=len(lines),
        failures=tuple(sorted(failed)),
        warned=tuple(sorted(warned - failed)),
        reasons=tuple(_reasons(run, checks, failed)),
    )


def _is_bad(run: Run, check: dict[str, Any]) -> bool:
    """Whether a check is against the server; where all must pass, one that was not made is too."""
    status = check["status"]
    return bool(status not in {"SUCCESS", "INFO"} if run.all_must_pass else status == "FAILURE")


def _reasons(run: Run, checks: Sequence[tuple[str, dict[str, Any]]], scenarios: set[str]) -> Iterator[str]:
    for scenario in sorted(scenarios - {scenario for scenario, _ in checks}):
        yield f"{scenario}: nothing was checked"
    for scenario, check in checks:
        if scenario in scenarios and _is_bad(run, check):
            yield f"{scenario}: {check['id']}: {check.get('errorMessage', check['description'])}"


def _checks(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every check with its scenario, whose name the suite's folders carry between a role and the time."""
    for file in sorted(folder.glob("*server-*/checks.json")):
        named = re.fullmatch(r"(?:authorization-)?server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z", file.parent.name)
        for check in json.loads(file.read_text()):
            yield named[1] if named else file.parent.name, check
