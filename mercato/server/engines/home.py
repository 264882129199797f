"""Where the engines live and as whom they run. Nothing that we did not make is given other rights or another owner."""

from __future__ import annotations

import errno
import os
import pwd
import stat
import string
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mercato.server.engines.files import ANOTHER_DIR, EngineError

SOCKET_PATH_BYTES_MAX = 100  # the kernels have room for 104 to 108
SOCKET_PATH_LETTERS = set(string.ascii_letters + string.digits + "/._-+@ ")


class Account(NamedTuple):
    """Who the engines run as when we are root, which PostgreSQL refuses to be."""

    name: str
    uid: int
    gid: int

    @property
    def popen(self) -> dict[str, Any]:
        """What makes a child process run as this account and nothing more."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


class Home(NamedTuple):
    """Settled by the starter, told to the keeper."""

    data_dir: Path
    socket_dir: Path
    account: Account | None
    durable: bool


def default_data_dir() -> Path:
    """Where the engines live when nobody says; root's is outside its own home, which no other account may enter."""
    if os.geteuid() == 0:
        return Path("/var/lib/mercato")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "mercato"


def drop_to(run_as: str) -> Account | None:
    """The account root drops to; None for an ordinary user, who runs the engines himself."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(run_as)
    except KeyError:
        raise EngineError(f"no user {run_as!r} here to run the engines as: set MERCATO_RUN_AS to one") from None
    if entry.pw_uid == 0:
        raise EngineError(f"PostgreSQL refuses to run as root, which {run_as!r} is: set MERCATO_RUN_AS to another user")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def user_name(uid: int) -> str:
    """The name, or what can be said of a user without one, as in many containers."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def make_data_dir(data_dir: Path, account: Account | None) -> None:
    """Makes it unless it is there; refuses one that the engines could not use."""
    if check_data_dir(data_dir, account):
        return
    mode = 0o711 if account else 0o700
    with suppress(FileExistsError):  # another starter was faster
        data_dir.mkdir(mode=mode, parents=True)
        data_dir.chmod(mode)  # ours, so a narrow umask may be corrected
    check_data_dir(data_dir, account)


def check_data_dir(data_dir: Path, account: Account | None) -> bool:
    """Whether it exists; raises for one that cannot be used, before anything is made in it or above it."""
    place = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    if not place.is_dir():
        raise EngineError(f"data directory {data_dir}: {place} is a file: {ANOTHER_DIR}")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise EngineError(
            f"data directory {data_dir}: {user_name(os.geteuid())} may not write in {place}: {ANOTHER_DIR}"
        )
    if account and not _may_enter(place, account):
        raise EngineError(
            f"root runs PostgreSQL and Valkey as {account.name}, who may not enter {place}: {ANOTHER_DIR}"
            " (/var/lib/mercato, say), or another user with MERCATO_RUN_AS"
        )
    return place == data_dir


def _may_enter(directory: Path, account: Account) -> bool:
    """Asks the kernel, which knows of lists and mounts that mode bits do not show: to run what does not exist is
    'not found' for one who may look and 'denied' for one who may not."""
    try:
        subprocess.run([directory / ".mercato-no-such-program"], check=False, **account.popen)
    except FileNotFoundError:
        return True
    except PermissionError as error:
        if error.errno == errno.EPERM:
            raise EngineError(f"root may not become {account.name} here: run as an ordinary user") from error
    return False


def check_owner(path: Path, account: Account | None) -> None:
    """Refuses files of an engine that ran as somebody else; to give them away is for their owner to decide."""
    owner = path.stat().st_uid
    if owner != (account.uid if account else os.geteuid()):
        runner = account.name if account else user_name(os.geteuid())
        cure = f"set MERCATO_RUN_AS to {user_name(owner)}" if account and owner else f"run as {user_name(owner)}"
        raise EngineError(f"{path} belongs to {user_name(owner)}, not to {runner}: {cure}, or {ANOTHER_DIR}")


def make_private_dir(path: Path, account: Account | None) -> None:
    """A directory for the engines alone; one that is there must be theirs, because anybody may make it in /tmp."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise EngineError(f"{path} is not a directory: remove it") from None
        check_owner(path, account)
    else:
        if account:
            os.chown(path, account.uid, account.gid)


def settle_socket_dir(data_dir: Path, socket_name: str) -> Path:
    """Inside the data directory, unless that makes the sockets' paths longer than kernels take, or holds what means
    something in the URL, in a list of hosts or in PostgreSQL's setting."""
    inside = data_dir / "run"
    if len(os.fsencode(inside / socket_name)) <= SOCKET_PATH_BYTES_MAX and set(str(inside)) <= SOCKET_PATH_LETTERS:
        return inside
    import hashlib  # takes longer to import than all the rest together, and is seldom needed

    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"mercato-{os.geteuid()}-{digest}"
