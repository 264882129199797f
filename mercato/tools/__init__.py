"""Tools: typed functions that an assistant can call, and the one way in which they run."""

from __future__ import annotations
