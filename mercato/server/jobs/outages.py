"""Outages: which failures of a job say that the service it talks to does not answer, and which say something else."""

from __future__ import annotations

import socket

import httpx

from mercato.tools.errors import InternalFault, LimitReached, ToolError, Unavailable

_AWAY = (
    httpx.TimeoutException,
    httpx.NetworkError,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
)
_OURS = (LimitReached, Unavailable, InternalFault)
"""They may go away too, and are none of the service's."""


def is_outage_outside(error: BaseException) -> bool:
    """Whether a failure is an outage of the service: no connection, no answer in time, an answer of 500 or above.

    A `ToolError` is one where it is `retryable`: that is how a plugin's client says it. A failure of another kind is
    the job's own, and is counted as an attempt: a mistake in a job must end among the dead letters, not wait for ever.
    """
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.is_server_error
    if isinstance(error, ToolError):
        return error.retryable and not isinstance(error, _OURS)
    return isinstance(error, _AWAY)
