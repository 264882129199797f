"""The keeper's door: `python -I -S -B <this file> ...`. It leads past site-packages and past our own package, whose
import takes longer than an engine's start: bare packages of the same names stand in for it."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

here = Path(__file__).resolve().parent
for name, folder in (("mercato", here.parents[1]), ("mercato.server", here.parent), ("mercato.server.engines", here)):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = [str(folder)]

import_module("mercato.server.engines.keeper").main(*sys.argv[1:])
