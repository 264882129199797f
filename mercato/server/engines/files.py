"""The files by which processes that know nothing of each other agree: locks, the keeper's state, logs."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

LOG_BYTES_MAX = 10_000_000
ANOTHER_DIR = "choose another one with --data-dir or MERCATO_DATA_DIR"


class EngineError(Exception):
    """One line for a person: what is wrong and what to do."""


@contextmanager
def disk_trouble(data_dir: Path) -> Iterator[None]:
    """Turns what the disk refuses (rights, space, a read-only mount) into a sentence."""
    try:
        yield
    except OSError as error:
        what = f"{error.strerror}: {error.filename}" if error.filename else f"{error.strerror}"
        raise EngineError(f"cannot use data directory {data_dir} ({what}): {ANOTHER_DIR}") from error


def users_lock(data_dir: Path, engine: str) -> Path:
    """Shared by all who use the engine; a keeper that gets it alone stops the engine, holding it."""
    return data_dir / f"{engine}.users.lock"


def process_lock(data_dir: Path, engine: str) -> Path:
    """Inherited by every process of the engine, so it is free when the last of them has ended and not before."""
    return data_dir / f"{engine}.process.lock"


def keeper_lock(data_dir: Path) -> Path:
    """Held by the keeper for life, and before that by the starter that spawns it."""
    return data_dir / "keeper.lock"


def try_lock(path: Path) -> int | None:
    """The lock, alone, or None when anybody has it. Close it to give it back."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if _flock(lock, fcntl.LOCK_EX):
        return lock
    os.close(lock)
    return None


def share_lock(path: Path, timeout_s: float = 60) -> int:
    """The lock, with others. Waits for a keeper that is stopping the engine of earlier users."""
    deadline_s = time.monotonic() + timeout_s
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while not _flock(lock, fcntl.LOCK_SH):
        if time.monotonic() > deadline_s:
            os.close(lock)
            raise EngineError(f"an earlier run is still stopping its engines; see the logs in {path.parent}")
        time.sleep(0.01)
    return lock


def is_held(path: Path) -> bool:
    """Whether anybody has the lock. Has it for a moment itself, so whoever only tries should try again."""
    return not _can_lock(path, fcntl.LOCK_EX)


def is_shared(path: Path) -> bool:
    """Whether others use what the lock stands for; a keeper that is stopping it has the lock, but does not share."""
    return is_held(path) and _can_lock(path, fcntl.LOCK_SH)


def _can_lock(path: Path, kind: int) -> bool:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return _flock(lock, kind)
    finally:
        os.close(lock)


def _flock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_state(data_dir: Path, state: dict[str, Any]) -> None:
    """Only for who has the keeper's lock."""
    draft = data_dir / "keeper.json.new"
    draft.write_text(json.dumps(state))
    draft.replace(data_dir / "keeper.json")


def read_state(data_dir: Path) -> dict[str, Any] | None:
    """What the living keeper says; None when none lives. What a dead one left behind is not believed."""
    if not is_held(keeper_lock(data_dir)):
        return None
    try:
        state: dict[str, Any] = json.loads((data_dir / "keeper.json").read_text())
    except FileNotFoundError:
        return {}
    return state if not state["pid"] or _is_alive(state["pid"]) else {}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def open_log(path: Path) -> IO[bytes]:
    """Appends; what has become too long is put aside first, once."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_name(f"{path.name}.1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab", buffering=0)


def last_line(log: Path) -> str:
    """What was said last, for instance the end of a traceback."""
    return next(reversed(_lines(log, 0)), f"nothing in {log}")


def complaint(log: Path, start: int) -> str:
    """The line since `start` that says why: the first grave one, because what follows it is its consequence."""
    lines = _lines(log, start)
    if any(sign in line for line in lines for sign in ("No space left on device", "Check free disk space")):
        return "the disk is full"
    grave = [line for line in lines if any(sign in line for sign in ("FATAL", "PANIC", "rror", "ould not", "an't "))]
    noise = "the database system is"  # starting up, as clients are told that came too early
    return next((line for line in grave if noise not in line), lines[-1] if lines else f"nothing in {log}")


def _lines(log: Path, start: int) -> list[str]:
    try:
        text = log.read_bytes()[start:].decode(errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]
