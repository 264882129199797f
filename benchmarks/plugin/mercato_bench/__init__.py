"""A plugin from outside: the tools that every server of the benchmark has. `shape` needs pydantic only, so that peers share it."""

from __future__ import annotations
