"""Queues of jobs side by side: mercato's ledger, bare arq, procrastinate."""

from __future__ import annotations
