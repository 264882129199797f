"""Schedule: when a job runs by the clock, in UTC or by each tenant's own clock, also where that is changed.

Twice a year a tenant's clock leaves out an hour, or shows one twice. What names its hours (`0 3 * * *`) runs once on
each day all the same: a time that is left out is moved by what the clock was moved, and of one that comes twice the
first counts. What runs in every hour (`*/5 * * * *`) goes by the time that passes: it runs in both such hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal

from croniter import croniter

CatchUp = Literal["skip", "once", "all"]
LATE = timedelta(seconds=60)
"""A tick that is found so much later was missed: nobody was there."""
MOST_AT_ONCE = 1_000
_AROUND = timedelta(hours=3)
"""More than any clock is moved at once."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times as cron has them: minute, hour, day of the month, month, day of the week.

    `catch_up` says what becomes of times at which nobody was there to run the job: `skip` leaves them out, `once`
    makes up for all of them by one run, `all` runs each, the oldest first.
    """

    cron: str
    catch_up: CatchUp = "once"

    def __post_init__(self) -> None:
        if len(self.cron.split()) != 5 or not croniter.is_valid(self.cron):
            raise TypeError(f"the schedule {self.cron!r} must have five fields: minute, hour, day, month, day of week")
        if self.catch_up not in ("skip", "once", "all"):
            raise TypeError("catch_up must be one of skip, once, all")

    @property
    def is_hourly(self) -> bool:
        """Whether it names no hours."""
        return self.cron.split()[1].startswith("*")

    def due(self, after: datetime, until: datetime, zone: tzinfo = UTC) -> list[datetime]:
        """Return the times in UTC, after one and up to another, at which it is to run now, by its rule for catching up.

        At most 1,000, the oldest first: ask again from the last of them.
        """
        if self.catch_up == "all":
            return [tick for tick, _ in zip(self._from(after, zone, until), range(MOST_AT_ONCE), strict=False)]
        last = self._last(until, zone)
        if last is None or last <= after or (self.catch_up == "skip" and last < until - LATE):
            return []
        return [last]

    def next(self, after: datetime, zone: tzinfo = UTC) -> datetime | None:
        """Return the next time in UTC; None where there is none, as on the 30th of February."""
        return next(self._from(after, zone, after + timedelta(days=366 * 5)), None)

    def _from(self, after: datetime, zone: tzinfo, until: datetime) -> Iterator[datetime]:
        """Yield the times in order; local times are gone through in theirs, which is another one at times."""
        waiting: list[datetime] = []
        begun = _naive(after, zone) - _AROUND
        for local in self._forward(begun, _naive(until, zone) + _AROUND):
            waiting.extend(tick for tick in self._meant(local, zone) if after < tick <= until and tick not in waiting)
            settled = local.replace(tzinfo=zone).astimezone(UTC) - _AROUND
            waiting.sort()
            while waiting and waiting[0] < settled:
                yield waiting.pop(0)
        yield from waiting

    def _forward(self, begun: datetime, until: datetime) -> Iterator[datetime]:
        times = croniter(self.cron, begun - timedelta(seconds=1), ret_type=datetime, max_years_between_matches=8)
        for local in times.all_next(datetime):
            if local > until:
                return
            yield local

    def _last(self, until: datetime, zone: tzinfo) -> datetime | None:
        best: datetime | None = None
        end = _naive(until, zone) + _AROUND
        for local in croniter(self.cron, end, ret_type=datetime, max_years_between_matches=8).all_prev(datetime):
            for tick in self._meant(local, zone):
                if tick <= until and (best is None or tick > best):
                    best = tick
            if best is not None and local < end - 3 * _AROUND:
                break
        return best

    def _meant(self, local: datetime, zone: tzinfo) -> list[datetime]:
        """Return what a local time means in UTC: one time, or two, or none."""
        first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if not self.is_hourly or first == second:
            return [first]
        is_left_out = first.astimezone(zone).replace(tzinfo=None) != local
        return [] if is_left_out else [first, second]


def _naive(time: datetime, zone: tzinfo) -> datetime:
    return time.astimezone(zone).replace(tzinfo=None)
