"""The peers, one module each; every one prints `{"port": N}` and serves `/mcp` on loopback until it is ended."""

from __future__ import annotations
