"""Gauges of what is in the database: read for each page of metrics, by whichever process shows it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import asyncpg

from mercato.server.metrics import Metrics
from mercato.tenancy.circuits import read_opened
from mercato.tenancy.system_pool import SystemPool

_LONGEST_S = 2


class StoredGauges:
    """Shows how many circuits are open. While the database is away the last figures stay."""

    def __init__(self, pool: SystemPool) -> None:
        self._pool = pool
        self._circuits: Mapping[str, int] = {}

    def watch(self, metrics: Metrics) -> None:
        """Show them."""
        metrics.before_page.append(self._look)
        metrics.gauge(
            "mercato_circuits_open",
            "Tenants whose jobs wait for an integration that does not answer, by integration.",
            lambda: self._circuits,
            label="integration",
        )

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_LONGEST_S):
                opened = await read_opened(self._pool)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return
        self._circuits = Counter(one.integration for one in opened)
