"""Spans: of an HTTP request, of the message in it, and of what either waited for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Self

from mcp.shared.exceptions import MCPError
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from mercato.server.metrics import kind_of

FINE = frozenset({"ok", "replayed", "input_required"})
"""Outcomes of a call that are no failures."""
_PROPAGATOR = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
_CARRIED = ("traceparent", "tracestate", "baggage")
_ROUTES = frozenset({"/mcp", "/sse", "/messages", "/token", "/register", "/healthz", "/readyz"})
_MOST_WAITING = 50


class RequestSpan:
    """The span of an HTTP request.

    It is begun when its message is known, whose `_meta` says in which trace it belongs, with the time at which the
    request came. What happened before, such as looking up who calls, waits until then.
    """

    def __init__(self, tracer: Tracer, scope: Scope) -> None:
        self._tracer = tracer
        self._scope = scope
        self._status = 0
        self._span: Span | None = None
        self._waiting: list[Leaf] = []
        self._has_ended = False
        self.context: Context | None = None

    def __enter__(self) -> Self:
        self._began_ns = time.time_ns()
        self._token = current_request.set(self)
        return self

    def begin(self, parent: Context | None = None) -> None:
        """Begin it, in this trace or in that of the headers; a second time does nothing."""
        if self._span is not None or self._has_ended:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._scope["headers"]}
        around = parent or parent_of(headers) or Context()
        self._span = self._tracer.start_span(
            self._name(), context=around, kind=SpanKind.SERVER, start_time=self._began_ns
        )
        self.context = trace.set_span_in_context(self._span, around)
        for leaf in self._waiting:
            leaf.write(self._tracer, self.context)
        self._waiting.clear()

    def _name(self) -> str:
        path = self._scope["path"]
        return f"{self._scope['method']} {path if path in _ROUTES else kind_of(path)}"

    def hold(self, leaf: Leaf) -> None:
        """Add what has ended, as soon as it is known to what."""
        if self._has_ended:
            return
        if self._span is None and len(self._waiting) >= _MOST_WAITING:
            self.begin()
        if self._span is None:
            self._waiting.append(leaf)
        else:
            leaf.write(self._tracer, self.context)

    def answered(self, status: int) -> None:
        """Take down the status of the answer."""
        self._status = status

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.begin()
        self._has_ended = True
        current_request.reset(self._token)
        if (span := self._span) is None:
            return
        span.set_attributes(self._attributes())
        if self._status >= 500 or kind is not None:
            span.set_attribute("error.type", str(self._status) if kind is None else kind.__qualname__)
            span.set_status(StatusCode.ERROR)
        span.end()

    def _attributes(self) -> dict[str, Any]:
        path = self._scope["path"]
        said = {
            "http.request.method": self._scope["method"],
            "http.route": path if path in _ROUTES else None,
            "url.scheme": self._scope["scheme"],
            "network.protocol.version": self._scope["http_version"],
            "http.response.status_code": self._status or None,
            "mercato.request_id": self._scope.get("state", {}).get("request_id"),
        }
        return {key: value for key, value in said.items() if value is not None}


class CallSpan:
    """The span of one message: a call, a list, whatever has a method."""

    def __init__(self, tracer: Tracer, name: str, attributes: Mapping[str, Any], asked: Context | None) -> None:
        self._tracer = tracer
        self._name = name
        self._attributes = attributes
        self._asked = asked

    def __enter__(self) -> Self:
        around, links = self._place()
        self._span = self._tracer.start_span(
            self._name, context=around, kind=SpanKind.SERVER, attributes=self._attributes, links=links
        )
        self._token = attach(trace.set_span_in_context(self._span, around))
        return self

    def _place(self) -> tuple[Context, list[Link]]:
        """Return where it belongs: under what is entered, or its request; or in the trace of its `_meta`."""
        request, around = current_request.get(), get_current()
        if not _span_of(around).is_valid and request is not None:
            request.begin(self._asked)
            around = request.context or around
        if self._asked is None or _span_of(self._asked).trace_id == _span_of(around).trace_id:
            return around, []
        return self._asked, [Link(_span_of(around))] if _span_of(around).is_valid else []

    def outcome(self, code: str) -> None:
        """Take down how it ended, in one word."""
        self._span.set_attribute("mercato.outcome", code)
        if code not in FINE:
            self._span.set_attribute("error.type", "tool_error")
            self._span.set_status(StatusCode.ERROR)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        detach(self._token)
        if kind is not None:
            code = str(error.error.code) if isinstance(error, MCPError) else kind.__qualname__
            self._span.set_attribute("error.type", code)
            self._span.set_status(StatusCode.ERROR)  # without its text, which may hold what people wrote
        self._span.end()


class Leaf:
    """Something that has ended, such as a statement: its span is made afterwards."""

    __slots__ = ("_attributes", "_began_ns", "_ended_ns", "_error", "_name")

    def __init__(
        self, name: str, began_ns: int, ended_ns: int, attributes: Mapping[str, Any], error: str | None
    ) -> None:
        self._name = name
        self._began_ns = began_ns
        self._ended_ns = ended_ns
        self._attributes = attributes
        self._error = error

    def write(self, tracer: Tracer, around: Context | None) -> None:
        """Make a span of it: under `around`, or under the span that is entered."""
        span = tracer.start_span(
            self._name, context=around, kind=SpanKind.CLIENT, attributes=self._attributes, start_time=self._began_ns
        )
        if self._error is not None:
            span.set_attribute("error.type", self._error)
            span.set_status(StatusCode.ERROR)
        span.end(self._ended_ns)


current_request: ContextVar[RequestSpan | None] = ContextVar("mercato_request_span", default=None)


def parent_of(carrier: Mapping[str, Any] | None) -> Context | None:
    """Return the trace that `_meta` or headers carry, in W3C's form; None where they carry none that is valid."""
    if not carrier or not isinstance(carrier.get("traceparent"), str):
        return None
    texts = {name: text for name in _CARRIED if isinstance(text := carrier.get(name), str)}
    found = _PROPAGATOR.extract(texts, context=Context())
    return found if _span_of(found).is_valid else None


def _span_of(context: Context) -> SpanContext:
    return trace.get_current_span(context).get_span_context()
