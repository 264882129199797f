"""The category that all tools of this plugin belong to."""

from __future__ import annotations

from mercato import Category

system = Category("system", "Health, configuration, members, audit log, jobs and plugins.")
