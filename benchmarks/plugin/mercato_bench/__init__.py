"""A plugin from outside: the tools that every server of the benchmark has. Peers share `shape`: it needs no mercato."""

from __future__ import annotations
