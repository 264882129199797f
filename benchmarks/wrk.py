"""The load by `wrk`: one thread, and a Lua script that gives every request an id of its own, and its session.

wrk looks at the status of an answer only. That every answer was as long as a good one is checked here, from the bytes
that it counted: a refusal or a tool's error in between would not be.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.load import STALL_S, Measured
from benchmarks.wire import Request, RowFailed

_SHARE_OFF = 0.01
_WARM_ID, _MEASURED_ID = 900_000_000, 950_000_000
"""Beyond those of the built-in load: no id comes twice in a session."""


def run_wrk(
    port: int,
    requests: list[Request],
    answer_bytes: int,
    *,
    warm_s: float,
    seconds: float,
    settle: Callable[[], None],
    mark: Callable[[], None],
) -> Measured:
    """Keep one connection busy for each request; call `mark` when the measurement begins and when it ends.

    Between warming up and measuring, `settle` waits until the server has done what wrk left behind when it went.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "requests.lua"
        script.write_text(_lua(requests, _WARM_ID))
        _wrk(port, len(requests), script, max(1, round(warm_s)))
        script.write_text(_lua(requests, _MEASURED_ID))
        settle()
        mark()
        cpu_s = _children_cpu_s()
        report = _wrk(port, len(requests), script, max(1, round(seconds)))
        cpu_s = _children_cpu_s() - cpu_s
        mark()
    _check(report, len(requests), answer_bytes)
    return Measured(report["requests"], report["seconds"], report["p50_ms"], report["p99_ms"], cpu_s)


def _wrk(port: int, connections: int, script: Path, seconds: int) -> dict[str, Any]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", f"{STALL_S}s"]
    done = subprocess.run(
        [*command, "-s", str(script), f"http://127.0.0.1:{port}/mcp"],
        capture_output=True,
        text=True,
        timeout=seconds + 2 * STALL_S,
    )
    for line in done.stdout.splitlines():
        if line.startswith('{"requests"'):
            report: dict[str, Any] = json.loads(line)
            return report
    raise RowFailed(f"wrk said nothing that could be read: {done.stderr[:300]}")


def _check(report: dict[str, Any], connections: int, answer_bytes: int) -> None:
    """Refuse a run with errors, or with answers of another length; those under way at its end are in the bytes only."""
    if report["errors"]:
        raise RowFailed(f"wrk counted {report['errors']} errors")
    if not report["requests"]:
        raise RowFailed("nothing was answered")
    least = report["requests"] * answer_bytes * (1 - _SHARE_OFF)
    most = (report["requests"] + connections) * answer_bytes * (1 + _SHARE_OFF)
    if not least <= report["bytes"] <= most:
        each = report["bytes"] / report["requests"]
        raise RowFailed(f"answers came to {each:,.0f} bytes each, where a good one has {answer_bytes:,}")


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _lua(requests: list[Request], first_id: int) -> str:
    """Return the script: raw requests in rotation, each with an id of its own, and a report as one line of JSON."""
    unlike = dict.fromkeys(requests)
    parts = ",\n".join(f"{{{_quoted(request.before_id)}, {_quoted(request.after_id)}}}" for request in unlike)
    return f"""
local parts = {{{parts}}}
local turn, id = 0, {first_id}
request = function()
  turn = turn % #parts + 1
  id = id + 1
  return parts[turn][1] .. id .. parts[turn][2]
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('{{"requests":%d,"bytes":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"errors":%d}}\\n',
    summary.requests, summary.bytes, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def _quoted(data: bytes) -> str:
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'
