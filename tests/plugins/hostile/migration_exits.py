from __future__ import annotations

from pathlib import Path

from mercato import hookimpl


@hookimpl
def register_migrations():
    return Path(__file__).parent / "exiting_versions"
