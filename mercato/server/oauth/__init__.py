"""The OAuth 2.1 authorization server: metadata, authorize, token, register, revoke, introspect, and its clients."""

from __future__ import annotations
