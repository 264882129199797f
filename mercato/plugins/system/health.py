"""Health: whether what the server stands on answers, asked at the moment of the call."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from mercato import ToolContext, admin, utc_now
from mercato.plugins.system.category import system


class Service(BaseModel):
    """One service, as its probe found it."""

    status: admin.Status
    latency_ms: float
    message: str
    last_checked: datetime


class Services(BaseModel):
    """Every service that there is."""

    database: Service
    cache: Service


class Details(BaseModel):
    """What else is known of the process that answered."""

    version: str
    started_at: datetime
    plugins_loaded: int
    plugins_disabled: int


class SystemHealth(BaseModel):
    """The server's health. `uptime` is in seconds."""

    status: admin.Status
    timestamp: datetime
    services: Services
    uptime: int
    details: Details | None


class ServiceStatus(Service):
    """The health of one service."""

    service: admin.ServiceName


@system.tool(read_only=True)
async def get_system_health(
    ctx: ToolContext,
    include_details: Annotated[bool, Field(description="Also tell the version and how many plugins serve.")] = False,
) -> SystemHealth:
    """Probe database and cache now and say whether the server is well, and for how many seconds it has run.

    For one of them use `get_service_status`.
    """
    services = {found.service: _service(found) for found in await admin.probe(ctx)}
    now = utc_now()
    return SystemHealth(
        status=_overall(services),
        timestamp=now,
        services=Services(**services),
        uptime=int((now - admin.process(ctx).started_at).total_seconds()),
        details=_details(ctx) if include_details else None,
    )


@system.tool(read_only=True)
async def get_service_status(
    ctx: ToolContext, service: Annotated[admin.ServiceName, Field(description="Which service to probe.")]
) -> ServiceStatus:
    """Probe one service now. For all of them and a verdict use `get_system_health`."""
    (found,) = await admin.probe(ctx, service)
    return ServiceStatus(service=service, **_service(found).model_dump())


def _service(found: admin.ServiceHealth) -> Service:
    return Service(
        status=found.status, latency_ms=found.latency_ms, message=found.message, last_checked=found.last_checked
    )


def _overall(services: dict[admin.ServiceName, Service]) -> admin.Status:
    """Without the database nothing works; without the cache most does."""
    if services["database"].status == "unhealthy":
        return "unhealthy"
    return "healthy" if all(service.status == "healthy" for service in services.values()) else "degraded"


def _details(ctx: ToolContext) -> Details:
    process = admin.process(ctx)
    return Details(
        version=process.version,
        started_at=process.started_at,
        plugins_loaded=len(admin.loaded_plugins(ctx)),
        plugins_disabled=len(admin.disabled_plugins(ctx)),
    )
