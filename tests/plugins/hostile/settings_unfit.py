"""Reads `MERCATO_SETTINGS_UNFIT_SECRET` from the environment, which the test sets to what cannot be used."""

from __future__ import annotations

from pydantic import BaseModel

from mercato import PluginSettings, hookimpl


class Settings(BaseModel):
    secret: int


@hookimpl
def register_settings():
    return PluginSettings(deployment=Settings)
