"""The pytest plugin. It brings the fixtures in after every other plugin's, so that ours of anyio's backend holds."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixtures."""
    from mercato.testing import fixtures

    config.pluginmanager.register(fixtures, "mercato-fixtures")
