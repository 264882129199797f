"""Logs: JSON when nobody watches, and never a secret."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import orjson

BEGINNING = """
import logging, structlog
from mercato.server.logs import configure_logs
configure_logs("info")
ours, theirs = structlog.stdlib.get_logger("ours"), logging.getLogger("theirs")
"""


def logged(program: str) -> list[dict[str, Any]]:
    """Run a program that logs; return its lines."""
    command = [sys.executable, "-c", BEGINNING + program]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert done.stdout == b""
    return [orjson.loads(line) for line in done.stderr.splitlines()]


def test_every_line_is_json_also_those_of_libraries():
    ours, theirs, quiet = logged(
        'ours.info("hello", tenant_id=5)\n'
        'theirs.warning("hello %s", "there")\n'
        'logging.getLogger("mcp.server").info("not shown")\n'
        'logging.getLogger("mcp.server").warning("shown")\n'
    )
    assert (ours["event"], ours["tenant_id"], ours["level"], ours["logger"]) == ("hello", 5, "info", "ours")
    assert (theirs["event"], theirs["level"]) == ("hello there", "warning")
    assert quiet["event"] == "shown"


def test_secrets_are_masked_by_their_name_and_by_their_look():
    (line,) = logged(
        'ours.info("called with mck_abcdefghij", api_key="hunter2", header="Bearer abc.def", deep={"token": "hunter2"})'
    )
    text = orjson.dumps(line).decode()
    assert not [secret for secret in ("hunter2", "mck_abcdefghij", "abc.def") if secret in text]
    assert line["deep"] == {"token": "***"}


def test_an_exception_is_logged_with_its_trace_and_without_local_variables():
    (line,) = logged(
        "def fail():\n"
        "    password = 'hunt' + 'er2'\n"
        "    raise ValueError('seven')\n"
        "try:\n"
        "    fail()\n"
        "except ValueError:\n"
        "    ours.exception('failed')\n"
    )
    assert "ValueError: seven" in line["exception"]
    assert "hunter2" not in line["exception"]
