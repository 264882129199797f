"""Limits: what holds the runs of jobs back, as the ledger is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mercato.plugins.jobs import Job
from mercato.tenancy.ledger_choosing import Limit


def limits_of(jobs: Iterable[Job[..., Any]]) -> dict[str, Limit]:
    """Return the limits of those jobs that have any, by their names."""
    return {
        job.name: Limit(job.name, job.concurrency, job.tenant_concurrency, job.talks_to)
        for job in jobs
        if (job.concurrency, job.tenant_concurrency, job.talks_to) != (None, None, None)
    }
