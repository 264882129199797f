from __future__ import annotations

from pydantic import BaseModel

from mercato import PluginSettings, hookimpl


class Settings(BaseModel):
    threshold: int


@hookimpl
def register_settings():
    return PluginSettings(tenant=Settings)
