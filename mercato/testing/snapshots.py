"""Snapshots: what goes over the wire, as JSON files that a change shows up in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

UPDATE = "MERCATO_UPDATE_SNAPSHOTS"


def assert_snapshot(path: Path, value: Any) -> None:
    """Compare with the file; write it instead where `MERCATO_UPDATE_SNAPSHOTS=1`. A missing file is a failure."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get(UPDATE) == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    if not path.exists():
        raise AssertionError(f"there is no snapshot {path.name}: run the tests once with {UPDATE}=1 and look at it")
    if (expected := path.read_text(encoding="utf-8")) != text:
        raise AssertionError(f"{path.name} differs; if that is meant, run with {UPDATE}=1\n{expected}\n---\n{text}")
