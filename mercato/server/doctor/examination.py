"""Examination: the steps in the order a client goes, and what one step learns for the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mercato.server.doctor.calls import check_calls
from mercato.server.doctor.challenge import check_challenge
from mercato.server.doctor.client import Client
from mercato.server.doctor.client_document import DEFAULT_CIMD, check_client_document
from mercato.server.doctor.endpoint import Resolve, check_endpoint, resolve_addresses
from mercato.server.doctor.finding import Finding
from mercato.server.doctor.listener import Listener
from mercato.server.doctor.refusals import check_refusals
from mercato.server.doctor.registration import check_registration
from mercato.server.doctor.replays import check_replays
from mercato.server.doctor.resource import check_resource
from mercato.server.doctor.server_document import check_server_document
from mercato.server.doctor.sign_in import Code, check_sign_in
from mercato.server.doctor.tokens import check_refresh, check_token
from mercato.server.doctor.wire import Wire


@dataclass
class Examination:
    """What is examined and by what means, then what the steps have found out so far."""

    url: str
    wire: Wire
    listener: Listener
    open_url: Callable[[str], Awaitable[None]] | None = None
    """Shows a person where to sign in; None leaves out everything that needs one."""
    resolve: Resolve = resolve_addresses
    wait_s: float = 300.0
    cimd: str = DEFAULT_CIMD
    access_token: str = field(default="", repr=False)

    reachable: bool = False
    challenge: dict[str, str] = field(default_factory=dict)
    resource: dict[str, Any] = field(default_factory=dict)
    issuer: str = ""
    server: dict[str, Any] = field(default_factory=dict)
    client: Client | None = None
    code: Code | None = None
    refresh_token: str = field(default="", repr=False)
    spent_refresh_token: str = field(default="", repr=False)
    left_out: list[str] = field(default_factory=list)
    """The steps that lacked what they need."""


class Step(NamedTuple):
    """A step, and the fields of the examination without which it can do nothing."""

    name: str
    run: Callable[[Examination], Awaitable[list[Finding]]]
    needs: tuple[str, ...] = ()


STEPS = (
    Step("url", check_endpoint),
    Step("challenge", check_challenge, ("reachable",)),
    Step("resource", check_resource, ("reachable",)),
    Step("authorization server", check_server_document, ("issuer",)),
    Step("client document", check_client_document, ("server",)),
    Step("registration", check_registration, ("server",)),
    Step("refusals", check_refusals, ("server", "client")),
    Step("sign in", check_sign_in, ("server", "client", "open_url")),
    Step("token", check_token, ("code",)),
    Step("refresh", check_refresh, ("refresh_token",)),
    Step("calls", check_calls, ("access_token",)),
    Step("replays", check_replays, ("code", "access_token")),
)
WITH_TOKEN = (Step("url", check_endpoint), Step("calls", check_calls, ("reachable",)))
"""The steps for those who have a token already."""


def steps_of(examination: Examination) -> Sequence[Step]:
    """Return the steps to go: with a token given, only those that use it."""
    return WITH_TOKEN if examination.access_token else STEPS


async def examine(examination: Examination) -> AsyncIterator[Finding]:
    """Go step by step and yield what each finds; a step that lacks what it needs is left out."""
    for step in steps_of(examination):
        if not all(getattr(examination, need) for need in step.needs):
            examination.left_out.append(step.name)
            continue
        for finding in await step.run(examination):
            yield finding.at(step.name)
