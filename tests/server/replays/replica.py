"""One process of several, as far as replays are concerned: its own memory, and the same database."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from mercato.server.mcp.delivery import Delivery
from mercato.server.replays import KeptReplays
from mercato.server.runtime import Runtime
from mercato.tenancy.onboarding import local_principal
from mercato.tenancy.principal import Principal
from mercato.tenancy.rows import utc_now
from mercato.tenancy.tenants import Tenant
from mercato.tools.call import Call, call_tool
from mercato.tools.outcome import Outcome


class Silent:
    """A client that cannot be asked."""

    can_ask = False

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        return None


class Asker(Silent):
    """One that says yes, and counts how often."""

    can_ask = True

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, key: str, message: str, schema: Any) -> dict[str, Any]:
        self.asked += 1
        return {"confirm": True}


@dataclass
class Replica:
    """A process. It stands for the Guard of its calls, and for their contexts. `ahead` is its clock's."""

    runtime: Runtime
    ahead: timedelta = field(default_factory=timedelta)

    def __post_init__(self) -> None:
        self.replays = KeptReplays(self.runtime.database, self.runtime.ring, lambda: utc_now() + self.ahead)
        self.open, self.clock = self.runtime.contexts.open, self.runtime.contexts.clock
        self.codes: list[str] = []

    async def admit(self, call: Call) -> None:
        """Let every call through."""

    def settle(self, call: Call, code: str, answer_bytes: int, seconds: float) -> None:
        """Keep how calls ended."""
        self.codes.append(code)

    async def call(
        self, tenant: Tenant, tool: str = "keep", name: str = "one", *, delivered: bool | None = None, **options: Any
    ) -> Outcome:
        """Make a call; with `delivered`, tell the fate of its answer."""
        if delivered is not None:
            options["delivery"] = Delivery()
        outcome = await self.run(tenant, tool, {"name": name}, **options)
        if delivered is not None:
            options["delivery"].settled(delivered)
        return outcome

    async def run(
        self, tenant: Tenant, tool: str, arguments: dict[str, Any], *, who: Principal | None = None, **options: Any
    ) -> Outcome:
        """Make a call with these arguments."""
        access = await self.runtime.directory.access(tenant.id)
        assert access is not None
        call = Call(
            tool=self.runtime.catalog.tools[tool],
            arguments=arguments,
            principal=who or await local_principal(self.runtime.database, tenant),
            access=access,
            **{"client": Silent(), "request_id": "r1", **options},
        )
        return await call_tool(call, self, self)
