"""Chaos of jobs: workers are killed, Redis forgets, PostgreSQL dies, and every effect is there once all the same."""

from __future__ import annotations
