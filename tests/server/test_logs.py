"""Logs: JSON when nobody watches, and never a secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog

from mercato.server.logs import configure_logs


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs("info")
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_every_line_is_json_also_those_of_libraries(logged: None, capsys: pytest.CaptureFixture[str]):
    structlog.stdlib.get_logger("ours").info("hello", tenant_id=5)
    logging.getLogger("theirs").warning("hello %s", "there")
    ours, theirs = [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (ours["event"], ours["tenant_id"], ours["level"], ours["logger"]) == ("hello", 5, "info", "ours")
    assert (theirs["event"], theirs["level"]) == ("hello there", "warning")


def test_secrets_are_masked_by_their_name_and_by_their_look(logged: None, capsys: pytest.CaptureFixture[str]):
    structlog.stdlib.get_logger("ours").info(
        "called with mck_abcdefghij", api_key="hunter2", header="Bearer abc.def", deep={"token": "hunter2"}
    )
    text = capsys.readouterr().err
    for secret in ("hunter2", "mck_abcdefghij", "abc.def"):
        assert secret not in text


def test_an_exception_is_logged_with_its_trace_and_without_local_variables(
    logged: None, capsys: pytest.CaptureFixture[str]
):
    password_of_somebody = "hunter2"
    try:
        raise ValueError(len(password_of_somebody))
    except ValueError:
        structlog.stdlib.get_logger("ours").exception("failed")
    line = orjson.loads(capsys.readouterr().err)
    assert "ValueError: 7" in line["exception"]
    assert "hunter2" not in line["exception"].replace('password_of_somebody = "hunter2"', "")
