"""The pages that people meet: sign in, set-up, invitation, consent, connected clients, API keys, account."""

from __future__ import annotations
