"""The days: when orders come in. More as the shop grows, on Mondays, and before the winter holidays."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

_WEEK = (1.2, 1.1, 1.0, 1.0, 0.95, 0.8, 0.9)
_YEAR = (0.95, 0.9, 0.95, 0.95, 1.0, 0.9, 0.85, 0.85, 1.0, 1.1, 1.5, 1.7)
_HOURS = (1, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 9, 9, 8, 8, 8, 8, 8, 9, 10, 10, 8, 5, 3)


def order_times(chance: Random, start: datetime, days: int, count: int) -> list[datetime]:
    """Return the times of so many orders in the days from `start` on, in order."""
    dates = [start + timedelta(days=day) for day in range(days)]
    weights = [(0.6 + day / days) * _WEEK[date.weekday()] * _YEAR[date.month - 1] for day, date in enumerate(dates)]
    hours = chance.choices(range(24), _HOURS, k=count)
    return sorted(
        date + timedelta(hours=hour, seconds=chance.randrange(3600))
        for date, hour in zip(chance.choices(dates, weights, k=count), hours, strict=True)
    )
