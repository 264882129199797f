"""From a request to a Principal."""

from __future__ import annotations
