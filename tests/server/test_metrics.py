"""Metrics: what is counted, who may read it, and that it stays small."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from mercato.plugins.manager import discover
from mercato.server import metrics as metrics_module
from mercato.server.app import create_app
from mercato.server.metrics import Metrics, kind_of
from mercato.server.metrics_page import MetricsPage
from mercato.server.settings import Settings, SettingsError
from mercato.tenancy.grants import enable_category
from mercato.tenancy.tenants import Tenant
from tests.server import probe
from tests.server.conftest import Site, listening, modern

KEY = "a-key-of-the-metrics"


async def page_of(metrics: Metrics, key: str | None = None, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(MetricsPage(metrics, key))
    async with httpx.AsyncClient(transport=transport, base_url="http://metrics") as client:
        return await client.get("/metrics", headers=headers)


@asynccontextmanager
async def site_with(tmp_path: Path, addresses: Any, **settings: Any) -> AsyncIterator[Site]:
    given = Settings(data_dir=tmp_path, log_level="warning", database_pool=2, **settings)
    found = [*(one for one in discover() if one.built_in), probe.FOUND]

    def make(port: int) -> Starlette:
        return create_app(given.model_copy(update={"port": port}), addresses, found=found)

    async with listening(make) as opened:
        yield opened


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def figures(text: str, name: str) -> dict[str, float]:
    """Return the figures of a name, by their labels as they are written."""
    found = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return {labels: float(figure) for labels, figure in found}


async def test_calls_are_counted_by_tool_era_and_outcome_and_their_durations_by_tool():
    metrics = Metrics()
    for seconds in (0.0009, 0.001, 0.04, 99.0):
        metrics.call("list_orders", "modern", "ok", seconds)
    metrics.call("list_orders", "legacy", "timed_out", 30.0)
    text = (await page_of(metrics)).text
    assert figures(text, "mercato_calls_total") == {
        '{era="modern",outcome="ok",tool="list_orders"}': 4,
        '{era="legacy",outcome="timed_out",tool="list_orders"}': 1,
    }
    buckets = figures(text, "mercato_call_duration_seconds_bucket")
    assert buckets['{le="0.001",tool="list_orders"}'] == 2
    assert buckets['{le="0.05",tool="list_orders"}'] == 3
    assert buckets['{le="30",tool="list_orders"}'] == 4
    assert buckets['{le="+Inf",tool="list_orders"}'] == 5
    assert figures(text, "mercato_call_duration_seconds_count") == {'{tool="list_orders"}': 5}
    assert figures(text, "mercato_call_duration_seconds_sum") == {'{tool="list_orders"}': pytest.approx(129.0419)}


async def test_what_a_limit_decided_is_counted():
    metrics = Metrics()
    for how in ("leased", "leased", "asked", "local"):
        metrics.admitted(how)
    metrics.limited("tenant")
    assert figures((await page_of(metrics)).text, "mercato_limit_decisions_total") == {
        '{decision="leased",limit=""}': 2,
        '{decision="asked",limit=""}': 1,
        '{decision="local",limit=""}': 1,
        '{decision="limited",limit="tenant"}': 1,
    }


async def test_figures_that_others_keep_are_read_for_each_page():
    metrics, open_streams = Metrics(), {"listen": 1}
    metrics.gauge("mercato_streams", "Open streams.", lambda: open_streams, label="kind")
    metrics.counter("mercato_written", "Rows.", lambda: 7)
    metrics.gauge("mercato_connected", "Whether.", lambda: True)
    open_streams["sse"] = 2
    text = (await page_of(metrics)).text
    assert figures(text, "mercato_streams") == {'{kind="listen"}': 1, '{kind="sse"}': 2}
    assert figures(text, "mercato_written_total") == {"": 7}
    assert figures(text, "mercato_connected") == {"": 1}


async def test_the_process_and_its_collections_of_garbage_are_shown():
    text = (await page_of(Metrics())).text
    assert figures(text, "process_resident_memory_bytes")[""] > 1_000_000
    assert len(figures(text, "python_gc_collections_total")) == 3


async def test_the_form_is_the_one_that_the_reader_asks_for():
    metrics = Metrics()
    metrics.call("list_orders", "modern", "ok", 0.1)
    plain = await page_of(metrics)
    modern_form = await page_of(metrics, accept="application/openmetrics-text; version=1.0.0")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert modern_form.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern_form.text.endswith("# EOF\n")
    assert not plain.text.endswith("# EOF\n")


async def test_a_page_with_a_key_is_for_who_has_it():
    for given in ("", "Bearer", "Bearer another", f"Basic {KEY}", KEY, f"Bearer {KEY} "):
        refused = await page_of(Metrics(), KEY, authorization=given)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == 'Bearer realm="mercato metrics"'
    assert (await page_of(Metrics(), KEY, authorization=f"Bearer {KEY}")).status_code == 200


async def test_what_people_type_becomes_no_label():
    metrics = Metrics()
    for number in range(100):
        metrics.request(f"/{number}", 404)
        metrics.request(f"/mcp/x/{number}", 404)
    assert metrics.requests == {("page", 404): 100, ("mcp", 404): 100}


async def test_outcomes_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics_module, "MOST_SERIES", 3)
    metrics = Metrics()
    for number in range(10):
        metrics.call("odd", "modern", f"code-{number}", 0.1)
    assert len(metrics.calls) == 4
    assert metrics.calls["odd", "modern", "other"] == 7
    assert sum(metrics.durations["odd"][:-1]) == 10


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/mcp", "mcp"),
        ("/mcp/readonly", "mcp"),
        ("/sse", "sse"),
        ("/token", "oauth"),
        ("/.well-known/jwks.json", "metadata"),
        ("/healthz", "probe"),
        ("/static/1/style.css", "static"),
        ("/keys", "page"),
        ("/metricsx", "page"),
    ],
)
def test_every_address_is_of_some_kind(path: str, kind: str):
    assert kind_of(path) == kind


async def test_without_a_port_or_a_key_there_is_no_such_page(site: Site):
    async with site.client(None) as client:
        assert (await client.get("/metrics")).status_code == 404


async def test_the_page_is_on_a_port_of_its_own(mercato_addresses: Any, tmp_path: Path, tenant: Tenant):
    port = free_port()
    async with site_with(tmp_path, mercato_addresses, metrics_port=port) as site:
        async with site.runtime.database.tenant(tenant.id) as db:
            await enable_category(db, "probe")
        async with site.client(await site.key(tenant)) as client:
            answered = await modern(client, "tools/call", {"name": "echo", "arguments": {"text": "secret"}})
            missing = await client.get("/metrics")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as reader:
            page, elsewhere = await reader.get("/metrics"), await reader.get("/")
            posted = await reader.post("/metrics")
    assert answered.status_code == 200
    assert (missing.status_code, elsewhere.status_code, posted.status_code) == (404, 404, 405)
    assert figures(page.text, "mercato_http_requests_total")['{kind="mcp",status="200"}'] == 1
    assert figures(page.text, "mercato_calls_total") == {'{era="modern",outcome="ok",tool="echo"}': 1}
    assert figures(page.text, "mercato_changes_connected") == {"": 1}
    assert figures(page.text, "mercato_streams") == {'{kind="listen"}': 0, '{kind="session"}': 0}
    assert figures(page.text, "mercato_database_connections") == {
        '{role="mercato_app"}': 0,
        '{role="mercato_system"}': 0,
    }
    assert tenant.slug not in page.text
    assert "secret" not in page.text
    with pytest.raises(httpx.ConnectError):
        await httpx.AsyncClient().get(f"http://127.0.0.1:{port}/metrics")


async def test_the_page_is_beside_everything_else_for_who_has_the_key(mercato_addresses: Any, tmp_path: Path):
    async with site_with(tmp_path, mercato_addresses, metrics_key=KEY) as site, site.client(None) as client:
        refused = await client.get("/metrics")
        page = await client.get("/metrics", headers={"authorization": f"Bearer {KEY}"})
    assert refused.status_code == 401
    assert figures(page.text, "mercato_http_requests_total") == {'{kind="metrics",status="401"}': 1}


async def test_a_port_that_is_taken_is_said_at_the_start(mercato_addresses: Any, tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(data_dir=tmp_path, metrics_port=taken.getsockname()[1])
        app = create_app(settings, mercato_addresses, found=())
        with pytest.raises(SettingsError, match="MERCATO_METRICS_PORT cannot be used: nothing can listen on"):
            await app.router.lifespan_context(app).__aenter__()


def test_a_key_that_can_be_guessed_is_refused():
    with pytest.raises(SettingsError, match="MERCATO_METRICS_KEY"):
        Settings(metrics_key="short")
