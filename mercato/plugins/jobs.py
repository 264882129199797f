"""Job: a typed async function that runs in the background, and everything the ledger needs to know of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Generic, Literal, ParamSpec, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from mercato.plugins.events import Event, TenantEvent
from mercato.plugins.payloads import Fault, faults_of
from mercato.plugins.schedules import Schedule
from mercato.tenancy import ledger
from mercato.tenancy.rows import utc_now
from mercato.tools.context import Context
from mercato.tools.schema import Schema, input_schema

Priority = Literal["high", "normal", "low"]
Payload = Mapping[str, Any]
Upgrade = Callable[[int, dict[str, Any]], dict[str, Any]]
Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")
NAME = re.compile(r"[a-z][a-z0-9_]{0,47}\.[a-z][a-z0-9_]{0,63}")
LARGEST_PAYLOAD_BYTES = 64 * 1024
LARGEST_RESULT_BYTES = 64 * 1024
PRIORITIES: Mapping[Priority, int] = {"high": 0, "normal": 1, "low": 2}
_OPTIONS = ("key", "delay_s", "due_at", "priority")


class Retry(Exception):  # no error: it was not the time yet
    """Raised by a job that wants to run again after some seconds; it counts as an attempt."""

    def __init__(self, after_s: float, reason: str = "") -> None:
        super().__init__(reason or f"to be tried again after {after_s:g} s")
        self.after_s = after_s


class Permanent(Exception):
    """Raised by a job that no repetition can help: it goes to the dead letters at once."""


class InvalidPayload(Permanent):
    """The payload does not fit the job's parameters; the text names the first of its faults."""

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = faults or [Fault("payload", message)]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often a job is tried, and how long it waits after each failure: `base_s * factor ** (failures - 1)` seconds.

    It never waits longer than `cap_s`. `jitter` is the share of the wait that chance decides (0 to 1), so that what
    failed together does not come back together.
    """

    attempts: int = 5
    base_s: float = 2
    factor: float = 4
    cap_s: float = 900
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base_s < 0 or self.factor < 1 or self.cap_s < 0 or not 0 <= self.jitter <= 1:
            raise TypeError(
                f"{self} cannot be: it needs an attempt, waits from 0 s, a factor from 1, a jitter of 0 to 1"
            )

    def wait_s(self, failures: int, chance: float) -> float:
        """Return how long to wait after so many failures; `chance` is a number from 0 to 1."""
        wait_s: float = self.base_s
        for _ in range(failures - 1):
            wait_s *= self.factor
            if wait_s >= self.cap_s:
                break
        wait_s = min(wait_s, self.cap_s)
        return wait_s * (1 - self.jitter * chance)


@dataclass(frozen=True)
class Job(Generic[Parameters, Returned]):
    """One kind of work in the background. Made by `job`; still callable as the function it was, for tests.

    Raises `TypeError` when it is declared, if its function cannot be a job.
    """

    function: Callable[..., Awaitable[Returned]]
    name: str
    version: int = 1
    upgrade: Upgrade | None = None
    retries: Backoff = Backoff()
    timeout_s: float = 300
    priority: Priority = "normal"
    concurrency: int | None = None
    tenant_concurrency: int | None = None
    schedule: Schedule | None = None
    each_tenant: bool = False
    requires: tuple[str, ...] = ()
    integration: str | None = None
    on: Event[Any] | None = None
    largest_result_bytes: int = LARGEST_RESULT_BYTES
    categories: tuple[str, ...] = field(default=(), compare=False)
    """Those of its plugin, which are known once that is loaded: where none is on, nothing starts it by itself."""

    def __post_init__(self) -> None:
        _check(self)

    async def __call__(self, ctx: Any, *arguments: Any, **payload: Any) -> Returned:
        """Run the function itself, past the ledger: for unit tests and for other jobs of the plugin."""
        return await self.function(ctx, *arguments, **payload)

    @property
    def description(self) -> str:
        """Its docstring, for people."""
        return " ".join((inspect.getdoc(self.function) or "").split())

    @property
    def talks_to(self) -> str | None:
        """The integration whose outages its runs wait out."""
        return self.integration or (self.requires[0] if len(self.requires) == 1 else None)

    @property
    def parameters(self) -> list[str]:
        """The names of its parameters, without the context."""
        return [parameter.name for parameter in _parameters(self)[1:]]

    @cached_property
    def schema(self) -> Schema:
        """The JSON Schema of its payload."""
        return input_schema(TypeAdapter(self._model))

    async def enqueue(
        self,
        ctx: Context,
        *,
        key: str | None = None,
        delay_s: float = 0,
        due_at: datetime | None = None,
        priority: Priority | None = None,
        **payload: Any,
    ) -> int:
        """Store a run of it in the transaction of `ctx.db`: it runs after the commit, or not at all. Returns its id.

        Of those with one `key` that have not begun, one is kept: the id is that one's then. Two with one key never run
        at the same time. `delay_s` or `due_at` says how late it may begin at the earliest. Raises `InvalidPayload`.
        """
        new = ledger.NewJob(
            name=self.name,
            version=self.version,
            payload=self.dump(payload),
            attempts=self.retries.attempts,
            priority=PRIORITIES[priority or self.priority],
            key=key,
            due_at=due_at or (utc_now() + timedelta(seconds=delay_s) if delay_s else None),
        )
        return await ledger.enqueue(ctx.db, new)

    def dump(self, payload: Payload) -> str:
        """Return a payload as it is stored. Raises `InvalidPayload`."""
        text = self._validated(payload).model_dump_json(exclude_unset=True)
        if len(text) > LARGEST_PAYLOAD_BYTES:
            reason = f"has {len(text):,} bytes; {LARGEST_PAYLOAD_BYTES:,} are the most. "
            reason += "Store what is large, and pass its id"
            raise InvalidPayload(f"{self.name}: the payload {reason}.", [Fault("payload", reason)])
        return text

    def faults(self, payload: Payload) -> Sequence[Fault]:
        """Return all that keeps it from being enqueued with a payload; nothing where that fits."""
        try:
            self.dump(payload)
        except InvalidPayload as error:
            return error.faults
        return ()

    def load(self, version: int, payload: Payload) -> dict[str, Any]:
        """Return the arguments of the function from what was stored. Raises `InvalidPayload`."""
        current = dict(payload)
        if version > self.version or (version < self.version and self.upgrade is None):
            raise InvalidPayload(f"{self.name}: the payload is of version {version}, the job of {self.version}")
        if version < self.version and self.upgrade is not None:
            current = self.upgrade(version, current)
        return dict(self._validated(current).__dict__)

    def _validated(self, payload: Payload) -> BaseModel:
        try:
            return self._model.model_validate(dict(payload))
        except ValidationError as error:
            faults = faults_of(error)
            raise InvalidPayload(f"{self.name}: `{faults[0].field}` {faults[0].reason}", faults) from None

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True)

    @cached_property
    def _model(self) -> type[BaseModel]:
        fields: dict[str, Any] = {
            parameter.name: (
                self._hints[parameter.name],
                ... if parameter.default is parameter.empty else parameter.default,
            )
            for parameter in _parameters(self)[1:]
        }
        return create_model(self.name.replace(".", "_"), __config__=ConfigDict(extra="forbid"), **fields)


def job(
    name: str,
    *,
    version: int = 1,
    upgrade: Upgrade | None = None,
    retries: Backoff = Backoff(),  # frozen
    timeout_s: float = 300,
    priority: Priority = "normal",
    concurrency: int | None = None,
    tenant_concurrency: int | None = None,
    schedule: Schedule | None = None,
    each_tenant: bool = False,
    requires: tuple[str, ...] = (),
    integration: str | None = None,
    on: Event[Any] | None = None,
    largest_result_bytes: int = LARGEST_RESULT_BYTES,
) -> Callable[[Callable[..., Awaitable[Returned]]], Job[..., Returned]]:
    """Declare a job: a typed async function of a `JobContext` and its payload. `register_jobs` must return it.

    `name` is `<plugin>.<noun>`, and stays: stored runs are found by it. A change of the parameters that old payloads do
    not fit needs another `version`, and `upgrade`, which makes the payload of this version out of an older one.
    At most `concurrency` of it run at once everywhere, `tenant_concurrency` for one tenant. With `schedule` it runs by
    the clock, with `each_tenant` once for each active tenant by that tenant's clock, where `requires` is connected.
    With `on` it runs for each event of that kind, which is its one parameter. `integration` names the outside service
    it talks to, where that is not the only one it `requires`: while that is away its runs wait, and lose no attempt.
    What it returns is kept, as JSON of `largest_result_bytes` at most.
    """

    def declare(function: Callable[..., Awaitable[Returned]]) -> Job[..., Returned]:
        return Job(
            function=function,
            name=name,
            version=version,
            upgrade=upgrade,
            retries=retries,
            timeout_s=timeout_s,
            priority=priority,
            concurrency=concurrency,
            tenant_concurrency=tenant_concurrency,
            schedule=schedule,
            each_tenant=each_tenant,
            requires=requires,
            integration=integration,
            on=on,
            largest_result_bytes=largest_result_bytes,
        )

    return declare


def _parameters(declared: Job[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(declared.function).parameters.values())


def _check(declared: Job[..., Any]) -> None:
    what = f"the job {declared.name!r}"
    if not NAME.fullmatch(declared.name):
        raise TypeError(f"{what}: the name must be `<plugin>.<noun>`, both snake_case")
    if not inspect.iscoroutinefunction(declared.function):
        raise TypeError(f"{what} must be an `async def` function")
    if not declared.description:
        raise TypeError(f"{what} needs a docstring: people read it beside its runs")
    if declared.priority not in PRIORITIES:
        raise TypeError(f"{what}: the priority must be one of {', '.join(PRIORITIES)}")
    if declared.timeout_s <= 0 or declared.version < 1:
        raise TypeError(f"{what}: the time-out must be above 0 s, the version 1 or more")
    for limit in (declared.concurrency, declared.tenant_concurrency):
        if limit is not None and limit < 1:
            raise TypeError(f"{what}: a concurrency is 1 or more")
    _check_parameters(what, declared)


def _check_parameters(what: str, declared: Job[..., Any]) -> None:
    parameters = _parameters(declared)
    if not parameters:
        raise TypeError(f"{what} needs the context as its first parameter")
    for parameter in parameters[1:]:
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise TypeError(f"{what}: the parameter {parameter.name} must have a name of its own")
        if parameter.name not in declared._hints or parameter.name in _OPTIONS:
            raise TypeError(f"{what}: `{parameter.name}` must have a type, and not be one of {', '.join(_OPTIONS)}")
    if declared.on is not None:
        wanted = TenantEvent[declared.on.model]  # type: ignore[name-defined]  # known only now
        if len(parameters) != 2 or declared._hints.get(parameters[1].name) != wanted:
            raise TypeError(f"{what} must take one event of {declared.on.name}: `TenantEvent[…]` of its model")
    elif declared.schedule is not None and any(one.default is one.empty for one in parameters[1:]):
        raise TypeError(f"{what} runs by the clock, so each of its parameters needs a default")
    _ = declared.schema
