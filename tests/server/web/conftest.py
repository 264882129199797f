from __future__ import annotations

from tests.server.oauth.conftest import ada, cheap_passwords, gus, replica

__all__ = ["ada", "cheap_passwords", "gus", "replica"]
