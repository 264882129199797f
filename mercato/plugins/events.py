"""Event: something that happened to a tenant, told to the jobs that are declared `on` it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter

from mercato.plugins.payloads import Fault, faults_in
from mercato.tenancy.rows import utc_now
from mercato.tools.context import Context
from mercato.tools.schema import Schema, input_schema

Data = TypeVar("Data", bound=BaseModel)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}\.[a-z][a-z0-9_]{0,63}")


class TenantEvent(BaseModel, Generic[Data]):
    """One event, as its jobs get it. `id` is the same for all of them; `at` is in UTC."""

    id: str
    tenant_id: int
    at: datetime
    data: Data


@dataclass(frozen=True, slots=True)
class Event(Generic[Data]):
    """A kind of event: `<plugin>.<what_happened>`, in the past tense, with what it tells.

    `register_events` must return it; other plugins import it, and declare jobs `on` it.
    """

    name: str
    model: type[Data]
    description: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise TypeError(f"the event {self.name!r} must be named `<plugin>.<what_happened>`, both snake_case")
        if not self.description.strip():
            raise TypeError(f"the event {self.name} needs a description")

    @property
    def schema(self) -> Schema:
        """The JSON Schema of what it tells."""
        return input_schema(TypeAdapter(self.model))

    def faults(self, data: Mapping[str, Any]) -> Sequence[Fault]:
        """Return all that keeps data from being what it tells; nothing where that fits."""
        return faults_in(self.model, data)

    async def publish(self, ctx: Context, data: Data) -> None:
        """Tell it, in the transaction of `ctx.db`: each job that is declared `on` it runs once after the commit.

        Raises `LookupError` for an event that no plugin registered.
        """
        await ctx._host.publish(ctx, self, data)

    def told(self, event_id: str, tenant_id: int, data: Data) -> TenantEvent[Data]:
        """Return an event that happens now."""
        kind: Any = TenantEvent[self.model]  # type: ignore[name-defined]  # made for this model
        event: TenantEvent[Data] = kind(id=event_id, tenant_id=tenant_id, at=utc_now(), data=data)
        return event
