"""The deployment's own jobs: each a shallow function over one that does the work, and safe to run twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mercato.plugins.jobs import Job
from mercato.server.jobs.core.alerting import purge_alerts, repeat_alerts, send_alert
from mercato.server.jobs.core.auditing import prune_audit
from mercato.server.jobs.core.checking import check_credentials, check_health
from mercato.server.jobs.core.purging import purge_answers, purge_jobs, purge_sign_ins, purge_tasks
from mercato.server.jobs.core.usage import rotate_usage

CORE_JOBS: Sequence[Job[..., Any]] = (
    check_health,
    send_alert,
    repeat_alerts,
    purge_answers,
    purge_sign_ins,
    purge_tasks,
    purge_jobs,
    purge_alerts,
    rotate_usage,
    prune_audit,
    check_credentials,
)
