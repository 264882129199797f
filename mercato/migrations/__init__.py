"""Migrations: the core's versions, and the runner that also upgrades each plugin's schema."""

from __future__ import annotations
