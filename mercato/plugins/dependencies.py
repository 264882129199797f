"""Which plugins are built on which: an edge is an import."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType

from mercato.plugins.manager import Plugins, discover


def importers_of(name: str, blocked: Iterable[str] = ()) -> list[str]:
    """Return the plugins whose modules import the package of the plugin `name`, sorted."""
    plugins = Plugins(blocked=blocked)
    found = list(discover())
    plugins.load(found)
    packages = {one.name: _package(one.load()) for one in found if one.name in plugins.loaded}
    victim = packages.get(name)
    if victim is None:
        return []
    return sorted(other for other, package in packages.items() if other != name and _imports(package, victim))


def _package(plugin: object) -> str:
    return plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__


def _imports(package: str, victim: str) -> bool:
    modules = [module for name, module in list(sys.modules.items()) if _within(name, package)]
    return any(_within(_home(value), victim) for module in modules for value in list(vars(module).values()))


def _home(value: object) -> str:
    return value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")
