"""How many calls are let through, and how much may be spent: counted in Redis by all replicas together."""

from __future__ import annotations

from mercato.server.limits.limiter import Limiter
from mercato.server.limits.windows import Reached, Window

__all__ = ["Limiter", "Reached", "Window"]
