"""Chaos: three replicas of which one after the other is killed, under clients of every kind."""

from __future__ import annotations
