"""Processes and the wire: HTTP, terminal and worker shells over the domain functions of the other parts."""

from __future__ import annotations
