"""Replays: a write whose answer was lost is answered from what it did."""

from __future__ import annotations

from mercato.server.replays.replays import KeptReplays

__all__ = ["KeptReplays"]
