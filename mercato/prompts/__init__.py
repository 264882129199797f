"""Prompts: messages that a person picks to begin a piece of work."""

from __future__ import annotations
