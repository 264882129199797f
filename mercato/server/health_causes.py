"""What is wrong where a probe did not find what it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mercato.server.health import Service
from mercato.tenancy.alerts import Cause
from mercato.tools.administration import ServiceName


def causes_of(services: Mapping[ServiceName, Service]) -> Sequence[Cause]:
    """Return a cause for each service that does not answer, which is critical, or answers slowly."""
    return [
        Cause(f"health.{name}", "warning" if service.healthy else "critical", service.message)
        for name, service in services.items()
        if service.status != "healthy"
    ]
