"""What a tool may hold while it runs: the tenant, who asks, the database, the outside world."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import httpx
import mcp_types as mcp
from pydantic import BaseModel, TypeAdapter, ValidationError
from structlog.stdlib import BoundLogger

from mercato.tenancy.access import Access
from mercato.tenancy.database import TenantDatabase
from mercato.tenancy.principal import Principal
from mercato.tenancy.tenants import Tenant
from mercato.tools.administration import Administration
from mercato.tools.arguments import reason_of
from mercato.tools.errors import Declined
from mercato.tools.moments import MOMENT_S, Lasting, Moments
from mercato.tools.schema import Schema, input_schema

Settings = TypeVar("Settings", bound=BaseModel)
Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Connected:
    """A connected account of an outside service, its credentials readable."""

    integration: str
    account: str
    settings: Mapping[str, Any]
    credentials: Mapping[str, Any] = field(repr=False)


class InputRequired(Exception):  # no error: the call pauses here and runs again with the answer
    """Raised by a client's channel whose protocol era has no way back: the question travels in the result."""

    def __init__(self, result: mcp.InputRequiredResult) -> None:
        super().__init__("the call waits for its client")
        self.result = result


class Handover(Exception):  # no error either
    """Raised by a client's channel that can neither ask nor say why not: another one runs the call, from its top."""


class Client(Protocol):
    """The other end of the call, as far as it can be reached; each wire form has its own."""

    @property
    def can_ask(self) -> bool:
        """Whether the client can put a question to its user."""

    async def ask(self, key: str, message: str, schema: Schema) -> Mapping[str, Any] | None:
        """Put a question to the user; None where they declined. May leave the call, to be run again with the answer."""

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Tell how far the work is, where the client wants to know."""


class Host(Protocol):
    """What the server hands to contexts: the parts behind their methods, and what `mercato.admin` shows."""

    @property
    def administration(self) -> Administration:
        """What `mercato.admin` shows and sets."""

    @property
    def http(self) -> httpx.AsyncClient:
        """The client for the outside world."""

    def database(self, tenant_id: int, *, read_only: bool) -> TenantDatabase:
        """Return the rows of a tenant."""

    def logger(self, tenant_id: int, name: str) -> BoundLogger:
        """Return the logger of a tool for a tenant."""

    async def connection(self, db: TenantDatabase, integration: str, account: str | None) -> Connected:
        """Return a connected account with readable credentials. Raises `NotConnected`."""

    def settings(self, model: type[Settings], stored: Mapping[str, Mapping[str, Any]]) -> Settings:
        """Return the deployment's or the tenant's settings of this model. Raises `LookupError` for an unknown model."""

    async def publish(self, ctx: Context, event: Any, data: BaseModel) -> None:
        """Store a run of each job that is declared on an event. Raises `LookupError` for one that nobody registered."""

    async def job_progress(
        self, run_id: int, attempt: int, done: float, total: float | None, message: str | None
    ) -> None:
        """Write down how far a run of a job is."""


class Watch(Protocol):
    """What looks whether a call lasts anyway, and tells the call's clock, which needs no look of its own then."""

    task: asyncio.Task[Any] | None
    """The task that runs the call."""
    clock: Lasting | None
    """Who is told, besides itself, when the call has lasted a moment."""
    lasts: bool
    """Whether it has."""


class Clock:
    """Stops what runs in its block after some seconds, and can be paused: `asyncio.timeout` at a fraction of the cost.

    The block ends with `is_over` set instead of an exception of its own; whoever made it says what that means. What
    lasts for a moment only never has a timer. With a `watch` it may stop it by a moment too late.
    """

    __slots__ = ("_left_s", "_moments", "_task", "_timer", "_watch", "is_over")

    def __init__(self, seconds: float, moments: Moments, watch: Watch | None = None) -> None:
        self._left_s = seconds
        self._moments = moments
        self._watch = watch
        self._timer: asyncio.TimerHandle | None = None
        self.is_over = False

    def __enter__(self) -> Clock:
        watch = self._watch
        if watch is None:
            self._task = self._moments.begin(self)
        else:
            self._task, watch.clock = watch.task, self
            if watch.lasts:
                self.go_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if self._watch is None:
            self._moments.end(self)
        else:
            self._watch.clock = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.is_over or self._task is None:
            return False
        # Somebody else may have cancelled it too: then that goes on.
        return self._task.uncancel() == 0 and kind is not None and issubclass(kind, asyncio.CancelledError)

    def has_lasted(self) -> None:
        """A moment is over: from now on it has a timer of its own."""
        if self._watch is None:
            self._left_s -= MOMENT_S
        self.go_on()

    def pause(self) -> None:
        """Let no time pass."""
        if self._timer is not None:
            self._left_s = self._timer.when() - asyncio.get_running_loop().time()
            self._timer.cancel()
            self._timer = None
        elif self._watch is not None:
            self._watch.clock = None
        elif (began := self._moments.end(self)) is not None:
            self._left_s -= time.monotonic() - began

    def go_on(self) -> None:
        """Let time pass again."""
        if self._timer is not None:  # several were waited for at once
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._left_s), self._stop)

    def _stop(self) -> None:
        self._timer = None
        self.is_over = True
        if self._task is not None:
            self._task.cancel()


@dataclass(slots=True)
class Conversation:
    """The questions of one call: numbered, so that a call that runs again finds its answers, and off the clock."""

    client: Client
    clock: Clock | None = None
    asked: int = 0

    async def ask(self, message: str, model: type[Answer], key: str | None = None) -> Answer:
        """Put one question. Raises `Declined`, or what the client's channel raises."""
        self.asked += 1
        adapter = TypeAdapter(model)
        reply = await self._off_the_clock(key or f"ask-{self.asked}", message, input_schema(adapter))
        if reply is None:
            raise Declined("The person was asked and declined; nothing was changed.")
        try:
            return adapter.validate_json(json.dumps(dict(reply)), strict=True)
        except (ValidationError, TypeError) as error:  # the second for what no JSON can hold
            text = f"The person's answer does not fit the question{_why(error)}; nothing was changed."
            raise Declined(text) from None

    async def _off_the_clock(self, key: str, message: str, schema: Schema) -> Mapping[str, Any] | None:
        if self.clock is None:
            return await self.client.ask(key, message, schema)
        self.clock.pause()
        try:
            return await self.client.ask(key, message, schema)
        finally:
            self.clock.go_on()


def _why(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return ""
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(map(str, first["loc"]))
    return f": `{name}` {reason_of(first)}" if name else ""


class Meter(Protocol):
    """Counts what a call costs, against the tenant's budget of the day."""

    cents: int

    async def spend(self, cents: int) -> None:
        """Take cents from the budget. Raises `LimitReached`, and then nothing was taken."""


class Context:
    """What code that acts inside one tenant may hold. What it does not ask for is not made."""

    __slots__ = ("_access", "_after_commit", "_db", "_host", "_meter", "_name", "_read_only")

    def __init__(self, host: Host, access: Access, meter: Meter, name: str, *, read_only: bool) -> None:
        self._host = host
        self._access = access
        self._meter = meter
        self._name = name
        self._read_only = read_only
        self._db: TenantDatabase | None = None
        self._after_commit: list[Callable[[], Awaitable[None]]] = []

    @property
    def tenant(self) -> Tenant:
        """The tenant that it acts for."""
        return self._access.tenant

    @property
    def db(self) -> TenantDatabase:
        """The rows of the tenant."""
        if self._db is None:
            self._db = self._host.database(self._access.tenant.id, read_only=self._read_only)
        return self._db

    @property
    def http(self) -> httpx.AsyncClient:
        """The client for the outside world."""
        return self._host.http

    @property
    def log(self) -> BoundLogger:
        """A logger that names the tenant, and what runs."""
        return self._host.logger(self._access.tenant.id, self._name)

    async def connection(self, name: str, account: str | None = None) -> Connected:
        """Return the tenant's account at an outside service. Raises `NotConnected`, whose text says what to do."""
        return await self._host.connection(self.db, name, account)

    async def spend(self, cents: int) -> None:
        """Take cents from the tenant's budget of the day, before what costs money is done.

        Raises `LimitReached` where the budget does not allow it, and `ValueError` for less than one cent.
        """
        if cents < 1:
            raise ValueError("spend at least one cent, in whole cents")
        await self._meter.spend(cents)

    def settings(self, model: type[Settings]) -> Settings:
        """Return a plugin's settings: its deployment model from the environment, or its tenant model."""
        return self._host.settings(model, self._access.settings)


class JobContext(Context):
    """What a job holds while it runs."""

    __slots__ = ("_attempt", "_run_id")

    def __init__(
        self, host: Host, access: Access, meter: Meter, name: str, run_id: int, attempt: int, *, read_only: bool = False
    ) -> None:
        super().__init__(host, access, meter, name, read_only=read_only)
        self._run_id = run_id
        self._attempt = attempt

    @property
    def run_id(self) -> int:
        """The number of this run in the ledger."""
        return self._run_id

    @property
    def attempt(self) -> int:
        """Which attempt it is, from 1."""
        return self._attempt

    @property
    def key(self) -> str:
        """A text that is the same for all attempts of this run: hand it to outside services as the idempotency key."""
        return f"mercato-{self._name}-{self._run_id}"

    async def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the work is, for whoever looks. Written at once, past the transaction of `db`."""
        await self._host.job_progress(self._run_id, self._attempt, done, total, message)


class ToolContext(Context):
    """What a tool holds while it runs."""

    __slots__ = ("_conversation", "_user")

    def __init__(
        self,
        host: Host,
        access: Access,
        meter: Meter,
        name: str,
        user: Principal,
        conversation: Conversation,
        *,
        read_only: bool,
    ) -> None:
        super().__init__(host, access, meter, name, read_only=read_only)
        self._user = user
        self._conversation = conversation

    @property
    def user(self) -> Principal:
        """Who asks."""
        return self._user

    async def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the work is. Costs nothing where the client does not listen."""
        await self._conversation.client.progress(done, total, message)

    async def ask(self, message: str, model: type[Answer], *, key: str | None = None) -> Answer:
        """Ask the person at the other end and return their answer as a `model` of plain fields.

        Comes before the first use of `db`, else `RuntimeError`: in the modern protocol era the function runs again
        from its top once the answer is there. `key` names the question on the wire. The wait does not count towards
        `timeout_s`. Raises `Declined`, or `ConfirmationNeeded` where the client cannot ask anybody.
        """
        if self._db is not None and self._db.touched:
            raise RuntimeError("`ask` must come before the first use of `db`: the function may run again from its top")
        return await self._conversation.ask(message, model, key)
