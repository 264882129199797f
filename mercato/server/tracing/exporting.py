"""Exporting: sends traces to where the standard OTEL_* variables say, if they say so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mercato.server.settings import SettingsError
from mercato.server.tracing.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_END_S = 5
_PROTOCOL = "http/protobuf"


@asynccontextmanager
async def open_tracing(variables: Mapping[str, str], version: str) -> AsyncIterator[Tracing | None]:
    """Open what the variables ask for, and send what is left at the end; None where they ask for nothing.

    Raises `SettingsError` for a value that cannot be used.
    """
    if not is_wanted(variables):
        yield None
        return
    provider = _provider(version)
    try:
        yield Tracing(provider)
    finally:
        # A collector that does not answer would be waited for for half a minute; a daemon thread ends with us.
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, _END_S)


def is_wanted(variables: Mapping[str, str]) -> bool:
    """Whether traces are to be sent: an endpoint alone says so. Raises `SettingsError`."""
    if variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    endpoint = variables.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or variables.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    exporter = variables.get("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint else "none")
    if exporter not in {"otlp", "none"}:
        raise SettingsError("OTEL_TRACES_EXPORTER cannot be used: it must be otlp or none.")
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    name = next((name for name in names if variables.get(name)), None)
    if exporter == "otlp" and name is not None and variables[name] != _PROTOCOL:
        raise SettingsError(f"{name} cannot be used: it must be {_PROTOCOL}.")
    return exporter == "otlp"


def _provider(version: str) -> TracerProvider:
    # Loaded now and not at the top: they take longer than all the rest of us, and few ask for them.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = Resource.create({"service.name": "mercato", "service.version": version})
    provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
