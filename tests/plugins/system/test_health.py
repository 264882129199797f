from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from mercato.server import health
from mercato.server.administration import ServerAdministration
from mercato.tenancy.database import Database


@pytest.fixture
def dead_port():
    """A port that is taken, and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def silent_port():
    """A port that takes connections and says nothing."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        yield silent.getsockname()[1]


@pytest.fixture
async def without(runtime, monkeypatch):
    """Take a service away from the probes: `without(database=port)`."""
    opened = []

    def take(**ports):
        database, redis = runtime.database, runtime.redis
        if "database" in ports:
            database = Database(f"postgresql://nobody@127.0.0.1:{ports['database']}/nothing")
            opened.append(database.close)
        if "cache" in ports:
            redis = Redis.from_url(f"redis://127.0.0.1:{ports['cache']}")
            opened.append(redis.aclose)
        parts = ServerAdministration(database, redis, runtime.changes, runtime.plugins)
        monkeypatch.setattr(runtime.contexts, "administration", parts)

    yield take
    for close in opened:
        await close()


async def test_a_server_that_is_well_says_so_service_by_service(mcp):
    found = (await mcp.call_tool("get_system_health", {})).structured_content
    assert found["status"] == "healthy"
    assert found["details"] is None
    assert found["uptime"] >= 0
    assert set(found["services"]) == {"database", "cache"}
    for service in found["services"].values():
        assert service["status"] == "healthy"
        assert service["latency_ms"] > 0
        checked = datetime.fromisoformat(service["last_checked"])
        assert timedelta() <= datetime.now(UTC) - checked < timedelta(minutes=1)


async def test_details_tell_the_version_and_how_many_plugins_serve(mcp, runtime):
    details = (await mcp.call_tool("get_system_health", {"include_details": True})).structured_content["details"]
    assert details["plugins_loaded"] == len(runtime.plugins.loaded)
    assert details["plugins_disabled"] == 0
    assert details["version"] == runtime.plugins.loaded["system"].version


@pytest.mark.parametrize("service", ["database", "cache"])
async def test_one_service_can_be_probed_alone(mcp, without, dead_port, service):
    other = "cache" if service == "database" else "database"
    without(**{other: dead_port})
    found = (await mcp.call_tool("get_service_status", {"service": service})).structured_content
    assert found["service"] == service
    assert found["status"] == "healthy"


async def test_a_service_that_does_not_exist_is_refused_with_those_that_do(mcp):
    result = await mcp.call_tool("get_service_status", {"service": "stripe"})
    assert result.is_error
    assert "Allowed for `service`: database, cache." in result.content[0].text


async def test_without_the_database_the_server_is_unhealthy(mcp, without, dead_port):
    without(database=dead_port)
    found = (await mcp.call_tool("get_system_health", {})).structured_content
    assert found["status"] == "unhealthy"
    assert found["services"]["database"]["status"] == "unhealthy"
    assert found["services"]["database"]["message"] == "The database does not answer."
    assert found["services"]["cache"]["status"] == "healthy"


async def test_without_the_cache_the_server_is_degraded(mcp, without, dead_port):
    without(cache=dead_port)
    found = (await mcp.call_tool("get_system_health", {})).structured_content
    assert found["status"] == "degraded"
    assert found["services"]["cache"]["status"] == "unhealthy"
    assert found["services"]["database"]["status"] == "healthy"


@pytest.mark.parametrize("service", ["database", "cache"])
async def test_a_service_that_is_away_is_reported_and_not_raised(mcp, without, dead_port, service):
    without(**{service: dead_port})
    result = await mcp.call_tool("get_service_status", {"service": service})
    assert not result.is_error
    assert result.structured_content["status"] == "unhealthy"


async def test_a_service_that_says_nothing_is_not_waited_for(mcp, without, silent_port, monkeypatch):
    monkeypatch.setattr(health, "PROBE_TIMEOUT_S", 0.05)
    without(database=silent_port, cache=silent_port)
    services = (await mcp.call_tool("get_system_health", {})).structured_content["services"]
    assert {service["status"] for service in services.values()} == {"unhealthy"}


async def test_a_slow_service_degrades_the_server(mcp, monkeypatch):
    monkeypatch.setattr(health, "_SLOW_MS", 0)
    found = (await mcp.call_tool("get_system_health", {})).structured_content
    assert found["status"] == "degraded"
    assert "slowly" in found["services"]["database"]["message"]
