"""What `mercato doctor` says of the engines. Starts nothing, makes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from mercato.server.engines.engine import Engine
from mercato.server.engines.files import EngineError, disk_trouble, read_state
from mercato.server.engines.home import check_data_dir, drop_to, user_name

Row = tuple[str, bool, str]


def report(kinds: Iterable[type[Engine]], data_dir: Path, run_as: str) -> list[Row]:
    """(check, ok, sentence) for the engines that are ours."""
    wanted = list(kinds)
    rows = [_row(f"{kind.title} binary", partial(_binary, kind)) for kind in wanted]
    rows.append(_row("data directory", partial(_data_dir, wanted, data_dir, run_as)))
    rows.append(_row("running as", partial(_running_as, run_as)))
    rows.extend(_row(kind.title, partial(_state, kind, data_dir)) for kind in wanted)
    return rows


def _row(check: str, sentence: Callable[[], str]) -> Row:
    try:
        return check, True, sentence()
    except EngineError as error:
        return check, False, str(error)


def _binary(kind: type[Engine]) -> str:
    return str(kind.wheel_binary())


def _data_dir(kinds: list[type[Engine]], data_dir: Path, run_as: str) -> str:
    account = drop_to(run_as)
    with disk_trouble(data_dir):
        exists = check_data_dir(data_dir, account)
        for kind in kinds:
            kind.check_files(data_dir / kind.name, account)
    return str(data_dir) if exists else f"{data_dir}, not made yet"


def _running_as(run_as: str) -> str:
    account = drop_to(run_as)
    return f"{account.name}, because PostgreSQL refuses root" if account else user_name(os.geteuid())


def _state(kind: type[Engine], data_dir: Path) -> str:
    with disk_trouble(data_dir):
        state = read_state(data_dir) or {}
    engine = state.get("engines", {}).get(kind.name, {"state": "stopped", "pid": 0, "error": ""})
    if engine["error"]:
        raise EngineError(engine["error"])
    if engine["state"] == "stopped":
        return "not running; starts with the first process that needs it"
    return f"{engine['state']}, process {engine['pid']}"
