"""Resources: what a client may read by its URI."""

from __future__ import annotations
