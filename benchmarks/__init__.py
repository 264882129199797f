"""Benchmarks: mercato side by side with its peers, on one machine, in one run."""

from __future__ import annotations
