"""Sessions of the handshake era, of which nothing is kept in a process that another could not have found in Redis.

One noun to a file: `record` and `sessions` (who and what), `streams`, `writer` and `writers` (what is sent and how it
is sent again), `calls` and `questions` (what is in flight in either direction), `reader` and `replica` (how processes
hear of each other), `notices` (what changed), `exchange` (one request from its message to its answer).
"""

from __future__ import annotations
