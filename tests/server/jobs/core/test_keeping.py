"""What is removed when nobody asks for it any more; every job runs twice."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from mercato.server.jobs.core import (
    CORE_JOBS,
    auditing,
    prune_audit,
    purge_answers,
    purge_jobs,
    purge_sign_ins,
    purge_tasks,
    rotate_usage,
    usage,
)
from mercato.tenancy.assertions import use_assertion
from mercato.tenancy.rows import utc_now
from mercato.tenancy.sessions import find_session, start_session
from mercato.tenancy.usage_months import months_after


async def test_answers_that_are_kept_no_longer_go(own, acme, globex, run):
    for tenant, minutes in ((acme, 11), (globex, 9)):
        await own.superuser.execute(
            "insert into mercato.answers (tenant_id, principal, tool, fingerprint, sealed, status, created_at)"
            " values ($1, 'p', 't', 'f', 's', 'undelivered', now() - $2 * interval '1 minute')",
            tenant.id,
            minutes,
        )
    assert await run(purge_answers) == {"answers": 1}
    assert await run(purge_answers) == {"answers": 0}
    assert await own.superuser.fetchval("select tenant_id from mercato.answers") == globex.id


async def test_sessions_and_assertions_that_are_over_go(runtime, own, acme, run):
    database, now = runtime.database, utc_now()
    user_id = await own.superuser.fetchval("select user_id from mercato.memberships where tenant_id = $1", acme.id)
    old, good = [await start_session(database, user_id, "") for _ in range(2)]
    await own.superuser.execute(
        "update mercato.sessions set expires_at = now() where id = (select min(id) from mercato.sessions)"
    )
    assert await use_assertion(database, "client", "old", now - timedelta(seconds=1))
    assert await use_assertion(database, "client", "good", now + timedelta(minutes=5))
    assert await run(purge_sign_ins) == {"sessions": 1, "codes": 0, "grants": 0, "assertions": 1}
    assert await run(purge_sign_ins) == {"sessions": 0, "codes": 0, "grants": 0, "assertions": 0}
    assert await find_session(database, old) is None
    assert await find_session(database, good) is not None
    assert not await use_assertion(database, "client", "good", now + timedelta(minutes=5))


async def test_tasks_that_nobody_has_answered_for_days_end_and_old_exports_go(own, acme, globex, run):
    for tenant, days, state in ((acme, 8, "waiting"), (globex, 6, "waiting"), (acme, 8, "done")):
        await own.superuser.execute(
            "insert into mercato.jobs"
            " (tenant_id, name, version, payload, priority, state, attempts, task_id, created_at)"
            " values ($1, 'mcp.run_tool', 1, '{}', 1, $2, 1, gen_random_uuid(), now() - $3 * interval '1 day')",
            tenant.id,
            state,
            days,
        )
        await own.superuser.execute(
            "insert into mercato.export_parts (tenant_id, export_id, part, name, content, characters, expires_at)"
            " values ($1, gen_random_uuid(), 1, 'audit.json', '[]', 2, now() + (7 - $2::int) * interval '1 day')",
            tenant.id,
            days,
        )
    assert await run(purge_tasks) == {"tasks": 1, "export_parts": 2}
    assert await run(purge_tasks) == {"tasks": 0, "export_parts": 0}
    left = await own.superuser.fetch(
        "select tenant_id, state from mercato.jobs where name = 'mcp.run_tool' order by tenant_id, state"
    )
    assert {tuple(row) for row in left} == {(acme.id, "cancelled"), (acme.id, "done"), (globex.id, "waiting")}
    assert await own.superuser.fetchval("select count(*) from mercato.export_parts") == 1


async def test_runs_that_ended_long_ago_go_and_others_stay(own, acme, run):
    for state, days in (("done", 31), ("dead", 31), ("done", 29), ("queued", 31)):
        await own.superuser.execute(
            "insert into mercato.jobs (tenant_id, name, version, payload, priority, state, attempts, finished_at)"
            " values ($1, 'gone.job', 1, '{}', 1, $2, 1, now() - $3 * interval '1 day')",
            acme.id,
            state,
            days,
        )
    assert (await run(purge_jobs))["runs"] == 2
    assert (await run(purge_jobs))["runs"] == 0
    left = await own.superuser.fetch("select state from mercato.jobs where name = 'gone.job' order by state")
    assert [row["state"] for row in left] == ["done", "queued"]


@pytest.mark.parametrize(
    ("day", "months", "first"),
    [
        (date(2026, 11, 30), 1, date(2026, 12, 1)),
        (date(2026, 12, 31), 1, date(2027, 1, 1)),
        (date(2026, 1, 5), -1, date(2025, 12, 1)),
        (date(2026, 3, 5), -13, date(2025, 2, 1)),
    ],
)
def test_months_are_counted(day, months, first):
    assert months_after(day, months) == first


async def test_months_of_usage_that_are_kept_no_longer_are_dropped_and_the_coming_one_is_made(own, run, monkeypatch):
    monkeypatch.setattr(usage, "utc_now", lambda: datetime(2030, 3, 31, 12, tzinfo=UTC))
    for month in ("2029-01-01", "2029-02-01"):
        await own.superuser.execute(
            f"set role mercato_owner; select mercato.make_usage_partition('{month}'); reset role"
        )
    assert (await run(rotate_usage))["made"] == 1
    assert await run(rotate_usage) == {"made": 0, "dropped": 0}
    names = await own.superuser.fetch(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'mercato.usage'::regclass order by 1"
    )
    kept = [row[0] for row in names]
    assert kept == ["mercato.usage_2029_02", "mercato.usage_2030_04"]


async def test_audit_entries_that_are_kept_no_longer_go_and_a_broken_chain_stays_whole(
    own, acme, globex, run, alerts, receiver, monkeypatch
):
    assert await run(prune_audit) == {"entries": 0, "broken": 0}
    monkeypatch.setattr(auditing, "utc_now", lambda: utc_now() + timedelta(days=30))
    await own.superuser.execute("update mercato.audit_entries set action = 'x' where tenant_id = $1", globex.id)
    before = await own.superuser.fetchval("select count(*) from mercato.audit_entries where tenant_id = $1", acme.id)
    pruned = await run(prune_audit)
    assert pruned["entries"] >= before
    assert await alerts() == [(globex.id, "audit.broken", "critical")]
    [left] = await own.superuser.fetch(
        "select action, client_id, user_id from mercato.audit_entries where tenant_id = $1", acme.id
    )
    assert tuple(left) == ("audit.prune", "retention", None)
    assert await own.superuser.fetchval("select count(*) from mercato.audit_entries where tenant_id = $1", globex.id)
    again = await run(prune_audit)
    assert again["broken"] == 1
    assert len(await alerts()) == 1


def test_every_job_of_the_deployment_is_named_and_told_of_in_the_documentation():
    from tests.sources import ROOT

    page = (ROOT / "docs" / "background-jobs.md").read_text(encoding="utf-8")
    assert {job.name for job in CORE_JOBS if f"`{job.name}`" not in page} == set()
    assert {job.name for job in CORE_JOBS if not job.name.startswith("core.")} == set()
