"""The Guard: asks the limits before a call, and takes down its usage after it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from mercato.server.limits.limiter import Limiter
from mercato.server.limits.windows import Reached, Window
from mercato.server.metrics import Metrics
from mercato.server.usage import Usage, Used
from mercato.tenancy.access import Access
from mercato.tenancy.limits import Limits
from mercato.tenancy.principal import Principal
from mercato.tools.call import Call
from mercato.tools.errors import BUDGET, LimitReached, ToolError
from mercato.tools.tool import Tool

LISTS = "lists"
_MOST_KEPT = 50_000
_WHOSE = {"caller": "this user or key", LISTS: "this user or key", "tenant": "this tenant", BUDGET: "this tenant"}


class Guard:
    """One decision and one record for each call, whichever way it came."""

    def __init__(self, limiter: Limiter, usage: Usage, metrics: Metrics) -> None:
        self._limiter = limiter
        self._usage = usage
        self._metrics = metrics
        self.admitted = usage.admitted
        """Counts a call of a tenant that the limits have let through; returns when, in seconds since 1970."""
        self._windows: dict[tuple[int, str, str, str], tuple[Limits, tuple[Window, ...]]] = {}

    async def admit(self, call: Call) -> None:
        """Let a call through, and count it once. Raises `LimitReached`; never waits for room."""
        if not call.within_limits:
            await self.ask_limits(call.principal, call.access, call.tool)
        call.admitted_at = self.admitted(call.principal.tenant_id)

    async def ask_limits(self, principal: Principal, access: Access, tool: Tool) -> None:
        """Take a call of this tool from every limit that it falls under. Raises `LimitReached`."""
        await self.take(self.limits_of(principal, access, tool))

    def limits_of(self, principal: Principal, access: Access, tool: Tool) -> Sequence[Window]:
        """Return the limits that a call falls under: the same for as long as the caller stays as they are."""
        return self._of(principal, access, tool.rate, tool.name)

    async def admit_reading(self, principal: Principal, access: Access) -> None:
        """Let through what is no call (a list, a resource, a prompt): free, but bounded. Raises `LimitReached`."""
        await self.take(self.limits_of_reading(principal, access))

    def limits_of_reading(self, principal: Principal, access: Access) -> Sequence[Window]:
        """Return the limits of what is no call."""
        return self._of(principal, access, LISTS, "")

    def settle(self, call: Call, code: str, answer_bytes: int, seconds: float) -> None:
        """Take down what became of an admitted call."""
        self._metrics.call(call.tool.name, call.era, code, seconds)
        principal = call.principal
        self._usage.note(
            Used(
                call.admitted_at,
                principal.tenant_id,
                principal.user_id,
                principal.kind,
                principal.credential_id,
                principal.client_id,
                call.session_id,
                call.request_id,
                call.tool.name,
                call.tool.category,
                code,
                int(seconds * 1_000_000),
                call.request_bytes,
                answer_bytes,
                0 if call.meter is None else call.meter.cents,
            )
        )

    def take_leased(self, windows: Sequence[Window]) -> bool:
        """Take one of each limit of what this process holds leased; or nothing, and return False."""
        if self._limiter.take_leased(windows):
            self._metrics.admitted("leased")
            return True
        return False

    async def take(self, windows: Sequence[Window]) -> None:
        """Take one of each limit. Raises `LimitReached`, and then nothing was taken."""
        if self.take_leased(windows):
            return
        reached = await self._limiter.take(windows)
        if reached is None:
            self._metrics.admitted("local" if self._limiter.local else "asked")
        else:
            self._metrics.limited(reached.limit)
            raise error_of(reached)

    def _of(self, principal: Principal, access: Access, rate: str, tool: str) -> Sequence[Window]:
        key = (principal.tenant_id, whose(principal), rate, tool)
        kept = self._windows.get(key)
        if kept is not None and kept[0] is access.limits:
            return kept[1]
        if len(self._windows) >= _MOST_KEPT:
            self._windows.clear()
        made = _windows(principal, access.limits, rate, tool)
        self._windows[key] = (access.limits, made)
        return made


class Budget:
    """What tenants may spend in a day of theirs."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def meter(self, access: Access) -> CallMeter:
        """Return what counts the cost of one call."""
        return CallMeter(self._limiter, access)


class CallMeter:
    """Counts what one call has spent."""

    __slots__ = ("_access", "_limiter", "cents")

    def __init__(self, limiter: Limiter, access: Access) -> None:
        self._limiter = limiter
        self._access = access
        self.cents = 0

    async def spend(self, cents: int) -> None:
        """Take cents from the budget of the tenant's day.

        Raises `LimitReached`, or a `ToolError` where no budget would do; then nothing was taken.
        """
        tenant, most = self._access.tenant, self._access.limits.cents_per_day
        now = datetime.now(ZoneInfo(tenant.timezone))
        reached = await self._limiter.spend(tenant.id, now.date().isoformat(), cents, most)
        if reached is not None:
            if cents > most:  # to wait would be in vain
                raise ToolError(
                    f"This would cost {cents:,} cents, and this tenant may spend {most:,} a day; nothing was done.",
                    next_step=f"An operator can raise the limit `{BUDGET}`.",
                )
            raise LimitReached(
                BUDGET, whose=_WHOSE[BUDGET], most=most, window_s=86_400, retry_after_s=_left_of_the_day_s(now)
            )
        self.cents += cents


def error_of(reached: Reached) -> LimitReached:
    """Return what a caller is told."""
    return LimitReached(
        reached.limit,
        whose=_WHOSE.get(reached.limit, "this tool"),
        most=reached.most,
        window_s=reached.window_s,
        retry_after_s=reached.retry_after_s,
    )


def whose(principal: Principal) -> str:
    """Return who a caller's own limit is for: the key, or the person however they signed in."""
    if principal.kind == "key":
        return f"key:{principal.credential_id}"
    return f"user:{principal.user_id}"


def _windows(principal: Principal, limits: Limits, rate: str, tool: str) -> tuple[Window, ...]:
    tenant = str(principal.tenant_id)
    caller = f"{tenant}:{whose(principal)}"
    if rate == LISTS:
        return (Window(LISTS, f"{caller}:{LISTS}", limits.lists),)
    return (
        Window("tenant", tenant, limits.tenant),
        Window("caller", caller, limits.caller),
        Window(rate, f"{tenant}:tool:{tool}", getattr(limits, rate)),
    )


def _left_of_the_day_s(now: datetime) -> int:
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(1, int((midnight.astimezone(UTC) - now.astimezone(UTC)).total_seconds()))
