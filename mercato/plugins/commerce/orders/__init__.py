"""Orders: found, read, moved from status to status, cancelled."""

from __future__ import annotations
