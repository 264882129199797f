"""The MCP endpoint: one file to a concern of the wire."""

from __future__ import annotations
