"""Alerts: one for each cause, counted, told of once, repeated while nobody cares, resolved when the cause is gone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from datetime import timedelta

import orjson
import pytest
import structlog

from mercato.server.alert_webhook import signature
from mercato.server.jobs.core import purge_alerts, repeat_alerts, send_alert
from mercato.server.jobs.core.alerting import notice
from mercato.tenancy import alerts as domain
from mercato.tenancy.alerts import Cause, observe
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.rows import utc_now
from tests.server.jobs.core.conftest import SECRET, WEBHOOK

LATE = Cause("queue.late", "warning", "The queue is late.")
VERY_LATE = Cause("queue.late", "critical", "The queue is very late.")


def told(outside):
    """What the webhook was sent: the kind, the number of the notice, and the text."""
    bodies = [orjson.loads(request.content) for request in outside.requests]
    return [(body["type"], body["data"]["notice"], body["data"]["text"]) for body in bodies]


async def test_a_cause_that_is_seen_again_is_counted_and_told_of_once(runtime, drain, receiver):
    for times in range(1, 4):
        seen = await observe(runtime.database, "queue", [LATE], notice)
        assert (seen.raised, seen.resolved) == (int(times == 1), 0)
        await drain()
    [alert] = await domain.read_alerts(runtime.database)
    assert (alert.key, alert.tenant, alert.occurrences, alert.notices) == ("queue.late", None, 3, 1)
    assert told(receiver) == [("alert.raised", 1, "The queue is late.")]


async def test_a_cause_that_is_gone_resolves_its_alert_and_comes_back_as_a_new_one(runtime, drain, receiver):
    for causes in ([LATE], [], [], [LATE]):
        await observe(runtime.database, "queue", causes, notice)
        await drain()
    new, old = await domain.read_alerts(runtime.database, resolved=True)
    assert (new.resolved_at, old.resolved_by) == (None, domain.GONE)
    assert [kind for kind, *_ in told(receiver)] == ["alert.raised", "alert.resolved", "alert.raised"]


async def test_areas_and_tenants_do_not_touch_each_other(runtime, acme, globex, alerts):
    ours = [Cause("circuit.shop", "warning", "away", tenant.id) for tenant in (acme, globex)]
    await observe(runtime.database, "queue", [LATE], notice)
    await observe(runtime.database, "circuit", ours, notice)
    assert (await observe(runtime.database, "circuit", ours[:1], notice)).resolved == 1
    assert await alerts() == [(0, "queue.late", "warning"), (acme.id, "circuit.shop", "warning")]
    for tenant, seen in ((acme, ["circuit.shop"]), (globex, ["circuit.shop"])):
        async with runtime.database.tenant(tenant.id, read_only=True) as db:
            assert [row.key for row in await db.rows(domain.select(domain.Alert))] == seen
    with pytest.raises(ValueError, match=r"begin with `queue\.`"):
        await observe(runtime.database, "queue", ours, notice)


async def test_processes_that_see_a_cause_at_once_raise_one_alert(runtime, drain, receiver):
    seen = await asyncio.gather(*(observe(runtime.database, "queue", [LATE], notice) for _ in range(5)))
    await drain()
    [alert] = await domain.read_alerts(runtime.database)
    assert (sum(one.raised for one in seen), alert.occurrences, len(receiver.requests)) == (1, 5, 1)


async def test_what_becomes_critical_is_told_of_once_more(runtime, drain, receiver):
    for cause in (LATE, VERY_LATE, VERY_LATE, LATE):
        await observe(runtime.database, "queue", [cause], notice)
        await drain()
    assert told(receiver) == [
        ("alert.raised", 1, "The queue is late."),
        ("alert.repeated", 2, "The queue is very late."),
    ]


async def test_critical_alerts_are_repeated_until_they_are_resolved(runtime, own, run, drain, receiver):
    other = Cause("queue.dead", "warning", "Some died.")
    await observe(runtime.database, "queue", [VERY_LATE, other], notice)
    await drain()
    assert await run(repeat_alerts) == {"repeated": 0}
    older = "update mercato.alerts set noticed_at = noticed_at - interval '30 minutes'"
    for number in (2, 3):
        await own.superuser.execute(older)
        assert await run(repeat_alerts) == {"repeated": 1}
        assert await run(repeat_alerts) == {"repeated": 0}
        assert told(receiver)[-1] == ("alert.repeated", number, "The queue is very late.")
    await observe(runtime.database, "queue", [other], notice)
    await own.superuser.execute(older)
    assert await run(repeat_alerts) == {"repeated": 0}


async def test_a_person_resolves_an_alert_once(runtime, drain, receiver):
    await observe(runtime.database, "queue", [LATE], notice)
    [alert] = await domain.read_alerts(runtime.database)
    await domain.resolve(runtime.database, alert.id, "ada at the terminal", notice)
    await drain()
    assert told(receiver)[-1][0] == "alert.resolved"
    with pytest.raises(InvalidValue, match="ada at the terminal"):
        await domain.resolve(runtime.database, alert.id, "bob", notice)
    with pytest.raises(NotFound):
        await domain.resolve(runtime.database, alert.id + 1_000, "bob", notice)
    assert (await observe(runtime.database, "queue", [LATE], notice)).raised == 1


async def test_a_notice_is_signed_and_says_all_that_is_known(runtime, acme, drain, receiver):
    await observe(runtime.database, "circuit", [Cause("circuit.shop", "critical", "It is away.", acme.id)], notice)
    await drain()
    [request] = receiver.requests
    body = orjson.loads(request.content)
    assert (body["type"], body["text"]) == ("alert.raised", f"critical ({acme.slug}): It is away.")
    assert body["data"] | {"first_at": "", "last_at": ""} == {
        "id": body["data"]["id"],
        "key": "circuit.shop",
        "severity": "critical",
        "text": "It is away.",
        "tenant": acme.slug,
        "server": runtime.site.issuer,
        "notice": 1,
        "occurrences": 1,
        "first_at": "",
        "last_at": "",
        "resolved_at": None,
        "resolved_by": None,
    }
    assert request.headers["webhook-id"] == f"alert-{body['data']['id']}-1"
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.content
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"


def test_the_signature_is_that_of_standard_webhooks():
    given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    content = b'{"test": 2432232314}'
    signed = signature(given, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, content)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_receiver_that_is_away_is_tried_again_and_its_address_is_told_nowhere(runtime, own, drain, outside):
    outside.reset()
    outside.on("POST", WEBHOOK, status=500)
    with structlog.testing.capture_logs() as logs:
        await observe(runtime.database, "queue", [VERY_LATE], notice)
        await drain()
        [run] = await own.superuser.fetch("select id, state, error from mercato.jobs where name = 'core.send_alert'")
        assert (run["state"], run["error"]) == ("retrying", "the webhook of alerts answered 500")
        outside.reset()  # a request that is not expected is an error of its own
        outside.on("POST", WEBHOOK)
        await own.superuser.execute("update mercato.jobs set due_at = now()")
        await drain()
    assert await own.superuser.fetchval("select state from mercato.jobs where id = $1", run["id"]) == "done"
    assert "very-secret" not in str(logs)
    assert [line["log_level"] for line in logs if line["event"].startswith("alert raised")] == ["error"]


async def test_a_notice_that_is_sent_twice_has_the_same_id(runtime, run, receiver):
    await observe(runtime.database, "queue", [LATE], notice)
    [alert] = await domain.read_alerts(runtime.database)
    for _ in range(2):
        await run(send_alert, alert_id=alert.id, word="raised", number=1)
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


async def test_an_alert_that_was_purged_is_told_of_no_more(runtime, run, receiver):
    assert await run(send_alert, alert_id=10**9, word="raised", number=1) == {"posted": False}


async def test_alerts_are_purged_long_after_they_were_resolved(runtime, own, run, receiver, monkeypatch):
    await observe(runtime.database, "queue", [LATE], notice)
    await observe(runtime.database, "queue", [], notice)
    await observe(runtime.database, "queue", [LATE], notice)
    assert await run(purge_alerts) == {"alerts": 0}
    await own.superuser.execute("update mercato.alerts set resolved_at = resolved_at - interval '91 days'")
    assert await run(purge_alerts) == {"alerts": 1}
    assert await run(purge_alerts) == {"alerts": 0}
    assert await domain.count_alerts(runtime.database) == {"warning": 1}
    assert await domain.purge_alerts(runtime.database, utc_now() + timedelta(days=1)) == 0
