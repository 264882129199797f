"""Traces: HTTP request, the message that it carries, the statements that it waits for; nothing at all unless asked for.

The standard OTEL_* variables decide. Spans hold names, times and outcomes: never arguments, answers or parameters.
"""

from __future__ import annotations

from mercato.server.tracing.exporting import open_tracing
from mercato.server.tracing.messages import TracedMessages
from mercato.server.tracing.spans import CallSpan, RequestSpan
from mercato.server.tracing.tracing import Tracing
from mercato.server.tracing.waits import reader_of, trace_commands, trace_statements

__all__ = [
    "CallSpan",
    "RequestSpan",
    "TracedMessages",
    "Tracing",
    "open_tracing",
    "reader_of",
    "trace_commands",
    "trace_statements",
]
