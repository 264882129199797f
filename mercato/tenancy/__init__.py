"""Who and whose: tenants, people, keys, what each may use, and the database that keeps them apart."""

from __future__ import annotations
