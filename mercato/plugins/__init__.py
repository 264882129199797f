"""The plugin system (its files) and the plugins that come with mercato (its folders)."""

from __future__ import annotations
