"""Traces: one tree from the request to its statements, in the trace of whoever called, and nothing private in it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mcp import Client
from mcp.shared.exceptions import MCPError
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from sqlmodel import col
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mercato.server.app import create_app
from mercato.server.mcp.callers import LocalCallers
from mercato.server.runtime import Addresses, Runtime
from mercato.server.settings import Settings, SettingsError
from mercato.server.tracing import TracedMessages, Tracing, open_tracing, reader_of, trace_commands, trace_statements
from mercato.server.tracing.exporting import is_wanted
from mercato.tenancy.database import Database
from mercato.tenancy.memberships import Membership
from mercato.tenancy.onboarding import local_principal
from mercato.tenancy.tenants import Tenant
from tests.server.conftest import listening, modern

TRACE, OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319c"
PARENT, OTHER_PARENT = f"00-{TRACE}-b7ad6b7169203331-01", f"00-{OTHER_TRACE}-b7ad6b7169203331-01"


class Recorder:
    """Keeps the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(provider)
        self.tracer = provider.get_tracer("tests")

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> ReadableSpan:
        return next(span for span in self.spans if span.name == name)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def traced_database(recorder: Recorder, mercato_addresses: Addresses) -> AsyncIterator[Database]:
    database = Database(mercato_addresses.database_url, pool_size=2, reader=reader_of(recorder.tracing))
    for engine in database.engines.values():
        trace_statements(recorder.tracing, engine)
    yield database
    await database.close()


def scope(*headers: tuple[str, str]) -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "scheme": "http",
        "http_version": "1.1",
        "headers": raw,
        "state": {"request_id": "abc"},
    }


def tree(spans: list[ReadableSpan]) -> dict[str, str | None]:
    """Return each span's name with that of its parent, if that is among them."""
    names = {span.context.span_id: span.name for span in spans if span.context}
    return {span.name: None if span.parent is None else names.get(span.parent.span_id) for span in spans}


def trace_ids(spans: list[ReadableSpan]) -> set[str]:
    return {f"{span.context.trace_id:032x}" for span in spans if span.context}


async def test_a_call_that_reads_a_row_is_one_tree_in_the_trace_of_its_client(
    recorder: Recorder, traced_database: Database, tenant: Tenant
):
    with recorder.tracing.request(scope()) as request:
        async with traced_database.system() as session:  # who calls is looked up before the message is read
            await (await session.connection()).execute(sa.text("select 'who'"))
        with recorder.tracing.call(
            "tools/call", name="list_orders", version="2026-07-28", meta={"traceparent": PARENT}, tenant_id=tenant.id
        ) as call:
            async with traced_database.tenant(tenant.id, read_only=True) as db:
                await db.rows(sa.select(col(Membership.id)).where(col(Membership.role) == "private"))
            async with traced_database.tenant(tenant.id) as db:
                await (await db.session.connection()).execute(sa.select(sa.literal("private")))
            call.outcome("ok")
        request.answered(200)
    request_span, call_span = recorder.named("POST /mcp"), recorder.named("tools/call list_orders")
    statements = [span for span in recorder.spans if span.name == "SELECT"]
    assert trace_ids(recorder.spans) == {TRACE}
    assert request_span.parent is not None
    assert f"{request_span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert call_span.parent == request_span.context
    assert [span.parent for span in statements] == [request_span.context, *[call_span.context] * 2]
    assert request_span.attributes == {
        "http.request.method": "POST",
        "http.route": "/mcp",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
        "mercato.request_id": "abc",
    }
    assert call_span.attributes == {
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": "2026-07-28",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "list_orders",
        "mercato.tenant_id": tenant.id,
        "mercato.outcome": "ok",
    }
    assert {(span.attributes or {})["db.system.name"] for span in statements} == {"postgresql"}
    assert "mercato.memberships" in str((statements[1].attributes or {})["db.query.text"])
    assert "private" not in str([dict(span.attributes or {}) for span in statements])
    assert all((span.start_time or 0) >= (request_span.start_time or 0) for span in recorder.spans)


async def test_a_trace_is_taken_from_the_headers_where_the_message_has_none(recorder: Recorder):
    headers = scope(("traceparent", PARENT))
    with recorder.tracing.request(headers), recorder.tracing.call("tools/list", meta={"traceparent": "nonsense"}):
        pass
    assert trace_ids(recorder.spans) == {TRACE}
    assert tree(recorder.spans) == {"POST /mcp": None, "tools/list": "POST /mcp"}


async def test_a_message_comes_before_the_headers(recorder: Recorder):
    headers = scope(("traceparent", OTHER_PARENT))
    with recorder.tracing.request(headers), recorder.tracing.call("tools/list", meta={"traceparent": PARENT}):
        pass
    assert trace_ids(recorder.spans) == {TRACE}


async def test_a_second_message_of_another_trace_is_linked(recorder: Recorder):
    with recorder.tracing.request(scope()):
        with recorder.tracing.call("tools/list", meta={"traceparent": PARENT}):
            pass
        with recorder.tracing.call("ping", meta={"traceparent": OTHER_PARENT}):
            pass
    second = recorder.named("ping")
    assert trace_ids([second]) == {OTHER_TRACE}
    assert [link.context for link in second.links] == [recorder.named("POST /mcp").context]


async def test_who_has_no_trace_gets_a_new_one_for_each_request(recorder: Recorder):
    for _ in range(2):
        with recorder.tracing.request(scope()), recorder.tracing.call("ping"):
            pass
    assert len(trace_ids(recorder.spans)) == 2
    assert len(recorder.spans) == 4


@pytest.mark.parametrize("meta", [{"traceparent": 7}, {"traceparent": "00-0-0-01"}, {"traceparent": ["a"]}, {}])
async def test_what_is_no_trace_is_ignored(recorder: Recorder, meta: dict[str, Any]):
    with recorder.tracing.call("ping", meta={**meta, "baggage": "a=b", "tracestate": {"a": 1}}):
        pass
    assert recorder.spans[0].parent is None


async def test_a_client_that_does_not_want_its_trace_recorded_is_heeded(recorder: Recorder, traced_database: Database):
    with recorder.tracing.request(scope()), recorder.tracing.call("ping", meta={"traceparent": f"{PARENT[:-1]}0"}):
        await traced_database.ping()
    assert recorder.spans == []


async def test_failures_are_named_without_their_words(recorder: Recorder, traced_database: Database):
    with pytest.raises(ValueError, match="hunter2"), recorder.tracing.call("tools/call", name="echo"):
        raise ValueError("the password is hunter2")
    with pytest.raises(MCPError), recorder.tracing.call("tools/list"):
        raise MCPError(-32602, "no hunter2")
    with recorder.tracing.call("tools/call", name="refuse") as span:
        span.outcome("invalid_arguments")
    with recorder.tracing.call("ping"), pytest.raises(sa.exc.DBAPIError):
        async with traced_database.system() as session:
            await (await session.connection()).execute(sa.text("select 1 / cast(:nothing as int)"), {"nothing": 0})
    failed = [span for span in recorder.spans if span.status.status_code is StatusCode.ERROR]
    assert [(span.attributes or {})["error.type"] for span in failed] == ["ValueError", "-32602", "tool_error", "22012"]
    assert (failed[2].attributes or {})["mercato.outcome"] == "invalid_arguments"
    assert not any(span.events for span in recorder.spans)
    assert "hunter2" not in "".join(span.to_json() for span in recorder.spans)


async def test_what_belongs_to_no_request_leaves_no_span(recorder: Recorder, traced_database: Database):
    await traced_database.ping()
    with recorder.tracing.request(scope()):
        pass
    await traced_database.ping()
    assert [span.name for span in recorder.spans] == ["POST /mcp"]


async def test_commands_to_redis_are_spans_by_their_name_alone(recorder: Recorder, mercato_addresses: Addresses):
    from redis.asyncio import Redis

    async with Redis.from_url(mercato_addresses.redis_url) as redis:
        trace_commands(recorder.tracing, redis)
        with recorder.tracing.call("ping"):
            await redis.set("tests:tracing", "private", ex=1)
    assert tree(recorder.spans) == {"ping": None, "SET": "ping"}
    assert "private" not in recorder.named("SET").to_json()


async def test_what_the_sdk_handles_is_traced_in_the_trace_of_its_client(
    recorder: Recorder, runtime: Runtime, tenant: Tenant
):
    handlers = runtime.handlers(LocalCallers(await local_principal(runtime.database, tenant), runtime.directory))
    server = runtime.server(handlers)
    server.middleware[:0] = [TracedMessages(recorder.tracing, runtime.catalog.tools)]
    async with Client(server) as client:
        with recorder.tracer.start_as_current_span("client"):
            await client.list_tools()
            await client.call_tool("list_orders", {"limit": "hunter2"})
            with pytest.raises(MCPError):
                await client.call_tool("hunter2")
    own = [span for span in recorder.spans if span.name != "client"]
    client_span = recorder.named("client").context
    assert [span.name for span in own if span.parent == client_span] == [
        "tools/list",
        "tools/call list_orders",
        "tools/call",
    ]
    assert (recorder.named("tools/call list_orders").attributes or {})["error.type"] == "tool_error"
    assert (recorder.named("tools/call").attributes or {})["error.type"] == "-32602"
    assert "hunter2" not in "".join(span.to_json() for span in own)


async def test_a_request_is_traced_through_the_whole_application(
    recorder: Recorder, mercato_addresses: Addresses, tmp_path: Path, tenant: Tenant
):
    settings = Settings(data_dir=tmp_path, log_level="warning", database_pool=2)

    def make(port: int) -> Starlette:
        given = settings.model_copy(update={"port": port})
        return create_app(given, mercato_addresses, tracing=recorder.tracing)

    async with listening(make) as site, site.client(await site.key(tenant), traceparent=PARENT) as client:
        assert (await modern(client, "tools/list")).status_code == 200
        assert (await client.get("/private/words", headers={"traceparent": OTHER_PARENT})).status_code == 404
    request = recorder.named("POST /mcp")
    looked_up = [span for span in recorder.spans if span.parent == request.context and span.name == "SELECT"]
    assert trace_ids([request, *looked_up]) == {TRACE}
    assert looked_up
    assert (request.attributes or {})["http.response.status_code"] == 200
    assert (request.attributes or {})["mercato.request_id"]
    assert trace_ids([recorder.named("GET page")]) == {OTHER_TRACE}
    assert "private" not in "".join(span.to_json() for span in recorder.spans if span.name == "GET page")


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
)
def test_the_standard_variables_decide(variables: dict[str, str], wanted: bool):
    assert is_wanted(variables) is wanted


@pytest.mark.parametrize(
    ("variables", "variable"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ],
)
def test_what_we_cannot_send_is_said(variables: dict[str, str], variable: str):
    with pytest.raises(SettingsError, match=variable):
        is_wanted(variables)


async def test_without_the_variables_there_is_no_tracing():
    async with open_tracing({}, "1.0") as tracing:
        assert tracing is None


async def test_what_is_left_is_sent_when_the_server_ends(monkeypatch: pytest.MonkeyPatch):
    received: list[bytes] = []

    async def take(request: Request) -> Response:
        received.append(await request.body())
        return Response(b"", media_type="application/x-protobuf")

    async with listening(lambda port: Starlette(routes=[Route("/v1/traces", take, methods=["POST"])])) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        async with open_tracing(os.environ, "1.2.3") as tracing:
            assert tracing is not None
            with tracing.request(scope()):
                pass
    assert b"POST /mcp" in b"".join(received)
    assert b"1.2.3" in b"".join(received)
