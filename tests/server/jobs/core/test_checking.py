"""What the deployment looks at by itself, and what it raises alerts of."""

from __future__ import annotations

from datetime import timedelta

import pytest
from redis.exceptions import ConnectionError as RedisAway

from mercato.server.jobs.core import check_credentials, check_health
from mercato.tenancy.connections import open_connection
from mercato.tenancy.rows import utc_now
from mercato.tenancy.secrets import KEY_BYTES, KeyRing

OF_ANOTHER_RING = KeyRing([b"x" * KEY_BYTES])
STORED = (
    "insert into mercato.jobs (tenant_id, name, version, payload, priority, state, attempts, due_at, finished_at,"
    " rung_until, lease_until) values ($1, $2, 1, '{}', 1, $3::varchar, 1, now() - $4::interval, now() - $4::interval,"
    " now() + interval '1 hour', case when $3::varchar = 'running' then now() + interval '1 hour' end)"
)


@pytest.fixture
def store(own):
    """Store a run that has been due, or has ended, for so long; no worker of these tests takes it."""

    async def put(tenant, name, state, ago):
        await own.superuser.execute(STORED, tenant.id, name, state, ago)

    return put


async def test_where_all_is_well_nothing_is_raised(run, acme, alerts, receiver):
    for _ in range(2):
        assert await run(check_health) == {"raised": 0, "resolved": 0}
        assert await run(check_credentials) == {"raised": 0, "resolved": 0}
    assert await alerts() == []


async def test_redis_that_is_away_is_critical_until_it_is_back(runtime, run, alerts, receiver, monkeypatch):
    async def refuse():
        raise RedisAway("away")

    with monkeypatch.context() as patched:
        patched.setattr(runtime.redis, "ping", refuse)
        assert [await run(check_health) for _ in range(2)] == [
            {"raised": 1, "resolved": 0},
            {"raised": 0, "resolved": 0},
        ]
        assert await alerts() == [(0, "health.cache", "critical")]
    assert await run(check_health) == {"raised": 0, "resolved": 1}
    assert await alerts() == []


async def test_a_database_that_is_slow_is_a_warning(run, alerts, receiver, monkeypatch):
    monkeypatch.setattr("mercato.server.health._SLOW_MS", 0)
    await run(check_health)
    assert (0, "health.database", "warning") in await alerts()


@pytest.mark.parametrize(
    ("ago", "severity"),
    [(timedelta(minutes=4), None), (timedelta(minutes=6), "warning"), (timedelta(hours=1), "critical")],
)
async def test_runs_that_nobody_takes_are_told_of(acme, store, run, alerts, receiver, ago, severity):
    await store(acme, "probe.keep", "queued", ago)
    await store(acme, "gone.job", "queued", timedelta(hours=2))  # it waits for a worker that knows it
    for _ in range(2):
        await run(check_health)
    assert await alerts() == ([] if severity is None else [(0, "queue.late", severity)])


@pytest.mark.parametrize("name", ["probe.single", "probe.one_each"])
async def test_runs_that_their_own_job_holds_back_are_not_late(own, acme, globex, store, run, alerts, receiver, name):
    await store(acme, name, "running", timedelta(hours=2))
    await store(acme, name, "queued", timedelta(hours=2))
    await run(check_health)
    assert await alerts() == []
    await store(globex, name, "queued", timedelta(minutes=6))
    await run(check_health)
    assert await alerts() == ([] if name == "probe.single" else [(0, "queue.late", "warning")])
    await own.superuser.execute("update mercato.jobs set state = 'done', lease_until = null where state = 'running'")
    await run(check_health)
    assert await alerts() == [(0, "queue.late", "critical")]


async def test_runs_that_have_died_lately_are_told_of(own, acme, globex, store, run, alerts, receiver):
    for tenant in (acme, globex):
        await store(tenant, "probe.fail", "dead", timedelta(minutes=5))
    await store(acme, "probe.keep", "dead", timedelta(hours=2))
    await run(check_health)
    assert await alerts() == [(0, "queue.dead", "warning")]
    text = await own.superuser.fetchval("select text from mercato.alerts")
    assert text.startswith("2 runs have died within an hour: probe.fail (2).")


async def test_an_integration_that_stays_away_is_told_of_and_what_waits_for_it_is_not_late(
    own, acme, globex, store, run, alerts, receiver
):
    opened = (
        "insert into mercato.circuits (tenant_id, integration, outages, opened_at, open_until)"
        " values ($1, 'partner', 5, now() - $2::interval, now() + interval '1 minute')"
    )
    await own.superuser.execute(opened, acme.id, timedelta(minutes=11))
    await own.superuser.execute(opened, globex.id, timedelta(minutes=9))
    await store(acme, "probe.ask", "queued", timedelta(hours=2))
    for _ in range(2):
        await run(check_health)
    assert await alerts() == [(acme.id, "circuit.partner", "warning")]
    await store(acme, "probe.keep", "queued", timedelta(hours=2))
    await own.superuser.execute("update mercato.circuits set opened_at = opened_at - interval '1 hour'")
    await run(check_health)
    assert await alerts() == [
        (0, "queue.late", "critical"),
        (acme.id, "circuit.partner", "critical"),
        (globex.id, "circuit.partner", "critical"),
    ]


@pytest.fixture
def connect(runtime):
    async def open_one(tenant, account, ring=None, **credentials):
        async with runtime.database.tenant(tenant.id) as db:
            await open_connection(db, ring or runtime.ring, "shop", account, {"token": "t", **credentials})

    return open_one


async def test_credentials_that_cannot_be_read_are_critical_for_their_tenant(
    own, acme, globex, connect, run, alerts, receiver
):
    for account in ("one", "two"):
        await connect(acme, account, OF_ANOTHER_RING)
    await connect(globex, "three")
    assert [await run(check_credentials) for _ in range(2)] == [
        {"raised": 1, "resolved": 0},
        {"raised": 0, "resolved": 0},
    ]
    assert await alerts() == [(acme.id, "credential.unreadable", "critical")]
    rows = await own.superuser.fetch("select id from mercato.connections where tenant_id = $1 order by id", acme.id)
    named = ", ".join(f"connection {row[0]} (shop)" for row in rows)
    assert f"{named} cannot be read" in await own.superuser.fetchval("select text from mercato.alerts")
    for account in ("one", "two"):
        await connect(acme, account)
    assert await run(check_credentials) == {"raised": 0, "resolved": 1}


@pytest.mark.parametrize(
    ("credentials", "is_told_of"),
    [
        (lambda now: {"expires_at": (now + timedelta(days=6)).timestamp()}, True),
        (lambda now: {"expires_at": (now - timedelta(days=1)).isoformat()}, True),
        (lambda now: {"expires_at": (now + timedelta(days=8)).isoformat()}, False),
        (lambda now: {"expires_at": now.timestamp(), "refresh_token": "r"}, False),
        (lambda now: {"expires_at": "never"}, False),
        (lambda now: {}, False),
    ],
)
async def test_a_credential_that_ends_soon_is_told_of(
    acme, globex, connect, run, alerts, receiver, credentials, is_told_of
):
    await connect(acme, "one", **credentials(utc_now()))
    await connect(globex, "two")
    await run(check_credentials)
    assert await alerts() == ([(acme.id, "credential.ending", "warning")] if is_told_of else [])


async def test_an_api_key_that_ends_soon_is_told_of(own, acme, globex, run, alerts, receiver):
    for tenant, days in ((acme, 6), (acme, -1), (globex, 8)):
        await own.superuser.execute(
            "insert into mercato.api_keys (tenant_id, membership_id, name, shown, digest, scopes, expires_at)"
            " select $1, id, 'ci', 'mck_', gen_random_uuid()::text::bytea, '{}', now() + $2 * interval '1 day'"
            " from mercato.memberships where tenant_id = $1",
            tenant.id,
            days,
        )
    await run(check_credentials)
    assert await alerts() == [(acme.id, "credential.ending", "warning")]


async def test_what_people_of_a_tenant_wrote_is_in_no_alert(own, acme, globex, connect, run, alerts, receiver):
    markup = "<!channel> [/b] *now*"
    await connect(acme, markup, OF_ANOTHER_RING)
    await connect(globex, markup, expires_at=utc_now().timestamp())
    await own.superuser.execute(
        "insert into mercato.api_keys (tenant_id, membership_id, name, shown, digest, scopes, expires_at)"
        " select $1, id, $2, 'mck_aB3dE9', gen_random_uuid()::text::bytea, '{}', now() + interval '1 day'"
        " from mercato.memberships where tenant_id = $1",
        globex.id,
        markup,
    )
    await run(check_credentials)
    told = "select text from mercato.alerts where tenant_id = any($1) order by tenant_id"
    texts = [row[0] for row in await own.superuser.fetch(told, [acme.id, globex.id])]
    assert len(texts) == 2
    assert "channel" not in "".join(texts)
    key_id = await own.superuser.fetchval("select id from mercato.api_keys where name = $1", markup)
    assert f"API key {key_id} (mck_aB3dE9…) ends on" in texts[1]
