"""Gauges of what is in the database: read for each page of metrics, by whichever process shows it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from mercato.server.metrics import Metrics
from mercato.tenancy.alerts import count_alerts
from mercato.tenancy.circuits import read_opened
from mercato.tenancy.database import Database

_LONGEST_S = 2


class StoredGauges:
    """Shows how many circuits and alerts are open. While the database is away the last figures stay."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._circuits: Mapping[str, int] = {}
        self._alerts: Mapping[str, int] = {}

    def watch(self, metrics: Metrics) -> None:
        """Show them."""
        metrics.before_page.append(self._look)
        metrics.gauge(
            "mercato_circuits_open",
            "Tenants whose jobs wait for an integration that does not answer, by integration.",
            lambda: self._circuits,
            label="integration",
        )
        metrics.gauge(
            "mercato_alerts_open", "Alerts that are not resolved, by severity.", lambda: self._alerts, label="severity"
        )

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_LONGEST_S):
                opened = await read_opened(self._database.pool)
                self._alerts = {"warning": 0, "critical": 0} | await count_alerts(self._database)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError):
            return
        self._circuits = Counter(one.integration for one in opened)
