"""The page that Prometheus reads: on a port of its own, or beside everything else for who has the key."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate

import uvicorn
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from mercato.server.connection import BoundedConnection
from mercato.server.metrics import DURATIONS_S, JOB_SECONDS, Metrics, Watched
from mercato.server.settings import Settings, SettingsError
from mercato.server.site import METRICS_PATH

_FAMILIES: dict[str, type[GaugeMetricFamily] | type[CounterMetricFamily]] = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
}


class MetricsPage:
    """The page as an ASGI application. With a key it answers only who sends that as a bearer token."""

    def __init__(self, metrics: Metrics, key: str | None) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Figures(metrics))
        self._before = metrics.before_page
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._expected = None if key is None else f"Bearer {key}".encode()
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["path"] != METRICS_PATH:
            await PlainTextResponse("Not found.", 404)(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"}:
            await PlainTextResponse("Send a GET.", 405, {"allow": "GET, HEAD"})(scope, receive, send)
        elif not self._may_read(scope):
            headers = {"www-authenticate": 'Bearer realm="mercato metrics"'}
            await PlainTextResponse("The key is needed.", 401, headers)(scope, receive, send)
        else:
            await (await self._page(scope))(scope, receive, send)

    async def _page(self, scope: Scope) -> Response:
        """Read the figures here, at one moment, and write them out in a thread: that takes tens of milliseconds."""
        for fetch in self._before:
            await fetch()
        encode, content_type = choose_encoder(Headers(scope=scope).get("accept", ""))
        text = await asyncio.to_thread(encode, _Read(list(self._registry.collect())))
        return Response(text, headers={"content-type": content_type})

    def _may_read(self, scope: Scope) -> bool:
        given = Headers(scope=scope).get("authorization", "").encode("latin-1")
        return self._expected is None or secrets.compare_digest(given, self._expected)


@asynccontextmanager
async def serving_metrics(settings: Settings, page: MetricsPage) -> AsyncIterator[None]:
    """Serve the page on its own port, where the settings name one. Raises `SettingsError` where that is taken."""
    if settings.metrics_port is None:
        yield
        return
    config, state = _config(page), ServerState()
    host, port = settings.metrics_host, settings.metrics_port
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: BoundedConnection(config, state, {}), host, port
        )
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(
            f"MERCATO_METRICS_PORT cannot be used: nothing can listen on {host}:{port} ({reason})."
        ) from None
    try:
        yield
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()


def _config(page: MetricsPage) -> uvicorn.Config:
    config = uvicorn.Config(
        page, http=BoundedConnection, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    config.load()
    return config


class _Read(Collector):
    """Families that were read already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        """Return them."""
        return self._families


class _Figures(Collector):
    """Gives our figures the form of the library."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Return every family."""
        metrics = self._metrics
        yield self._calls()
        yield _histogram(
            "mercato_call_duration_seconds", "How long calls took.", "tool", DURATIONS_S, metrics.durations
        )
        yield self._requests()
        yield self._decisions()
        yield self._job_runs()
        yield _histogram(
            "mercato_job_duration_seconds", "How long attempts of jobs took.", "job", JOB_SECONDS, metrics.job_durations
        )
        yield _histogram(
            "mercato_job_start_delay_seconds",
            "How much later than they were due jobs began.",
            "job",
            JOB_SECONDS,
            metrics.job_delays,
        )
        for watched in self._metrics.watched:
            yield _family(watched)

    def _calls(self) -> Metric:
        labels = ("tool", "era", "outcome")
        family = CounterMetricFamily("mercato_calls", "Calls of tools that have ended.", labels=labels)
        for key, count in self._metrics.calls.items():
            family.add_metric(key, count)
        return family

    def _requests(self) -> Metric:
        labels = ("kind", "status")
        family = CounterMetricFamily("mercato_http_requests", "HTTP requests, by kind of address.", labels=labels)
        for (kind, status), count in self._metrics.requests.items():
            family.add_metric((kind, str(status)), count)
        return family

    def _decisions(self) -> Metric:
        labels = ("decision", "limit")
        family = CounterMetricFamily("mercato_limit_decisions", "What the limits have decided.", labels=labels)
        for key, count in self._metrics.decisions.items():
            family.add_metric(key, count)
        return family

    def _job_runs(self) -> Metric:
        labels = ("job", "outcome")
        family = CounterMetricFamily("mercato_job_runs", "Attempts of jobs that have ended here.", labels=labels)
        for key, count in self._metrics.job_runs.items():
            family.add_metric(key, count)
        return family


def _histogram(
    name: str, text: str, label: str, bounds: Sequence[float], observed: Mapping[str, Sequence[float]]
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=(label,))
    ends = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    for value, (*buckets, seconds) in observed.items():
        family.add_metric((value,), buckets=list(zip(ends, accumulate(buckets), strict=True)), sum_value=seconds)
    return family


def _family(watched: Watched) -> Metric:
    figures = watched.read()
    labels = () if watched.label is None else (watched.label,)
    family: GaugeMetricFamily | CounterMetricFamily = _FAMILIES[watched.kind](watched.name, watched.text, labels=labels)
    if isinstance(figures, Mapping):
        for value, figure in figures.items():
            family.add_metric((value,), figure)
    else:
        family.add_metric((), figures)
    return family
