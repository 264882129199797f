"""`mercato doctor connector`: what a client does with an address, step by step, and what stands in its way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from mercato.server.cli.session import SET_UP, AsJson
from mercato.server.cli.terminal import say, say_json, stop, tell, without_controls

if TYPE_CHECKING:
    from mercato.server.doctor import Finding

_LABELS = {"ok": ("ok  ", "green"), "warning": ("warn", "yellow"), "fault": ("BAD ", "bold red")}


def connector(
    url: Annotated[str, typer.Argument(help="What people type as the connector: https://mcp.example.com/mcp.")],
    sign_in: Annotated[
        bool, typer.Option("--sign-in/--no-sign-in", help="Also sign in, which needs a person with a browser here.")
    ] = True,
    wait: Annotated[int, typer.Option(min=1, help="How many seconds to wait for that person.")] = 300,
    token: Annotated[
        str,
        typer.Option(
            envvar="MERCATO_DOCTOR_TOKEN", help="A token or API key: only list and call, with it.", show_default=False
        ),
    ] = "",
    cimd: Annotated[
        str | None, typer.Option(help="The client document (CIMD) to begin a sign-in as; else Claude Code's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Do what Claude, ChatGPT or an editor does with an address, and name each fault with its mend.

    Works with any server. Exit code 0: all well, 1: faults, 2: the address or an option cannot be used.
    """
    from mercato.server.doctor import DEFAULT_CIMD, UnusableUrl, check_url

    try:
        document = check_url(cimd or DEFAULT_CIMD)
        report = Report(check_url(url), as_json=as_json)
    except UnusableUrl as error:
        stop(str(error), SET_UP)
    asyncio.run(_examine(report, sign_in=sign_in, wait_s=wait, token=token, cimd=document))
    report.end()
    raise SystemExit(1 if report.faults else 0)


class Report:
    """Says each finding as it comes, or all of them at the end for a program."""

    def __init__(self, url: str, *, as_json: bool) -> None:
        self.url = url
        self._as_json = as_json
        self._findings: list[Finding] = []
        self.left_out: list[str] = []

    @property
    def faults(self) -> int:
        """How many there are."""
        return self._count("fault")

    def add(self, finding: Finding) -> None:
        """Take in a finding."""
        self._findings.append(finding)
        if not self._as_json:
            _say_finding(finding)

    def end(self) -> None:
        """Say the sum."""
        if self._as_json:
            findings = [finding.as_json() for finding in self._findings]
            say_json({"url": self.url, "ok": not self.faults, "findings": findings})
            return
        counts = f"ok: {self._count('ok')}, warnings: {self._count('warning')}, faults: {self.faults}"
        say(f"{counts}; left out: {', '.join(self.left_out)}" if self.left_out else counts)

    def _count(self, status: str) -> int:
        return sum(finding.status == status for finding in self._findings)


async def _examine(report: Report, *, sign_in: bool, wait_s: int, token: str, cimd: str) -> None:
    import httpx

    from mercato.server.doctor import Examination, Wire, examine, listening

    async with httpx.AsyncClient() as http, listening() as listener:
        examination = Examination(
            report.url,
            Wire(http),
            listener,
            open_url=_show if sign_in else None,
            wait_s=wait_s,
            cimd=cimd,
            access_token=token,
        )
        async for finding in examine(examination):
            report.add(finding)
        report.left_out = examination.left_out


async def _show(url: str) -> None:
    """Show where to sign in, on stderr: a program that reads stdout has no use for it."""
    tell(f"\nOpen this address in your browser and sign in:\n\n  {url}\n")


def _say_finding(finding: Finding) -> None:
    from rich.console import Console
    from rich.text import Text

    label, style = _LABELS[finding.status]
    line = Text.assemble((label, style), without_controls(f" {finding.step}: {finding.message}"))
    mend = without_controls(f"\n       mend: {finding.mend}") if finding.mend else ""
    Console(highlight=False, soft_wrap=True).print(line.append(mend))
