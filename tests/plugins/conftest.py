from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mercato.plugins.manager import Found

SOURCES = Path(__file__).parent / "hostile"


class Installed:
    """The plugins of `hostile/`, installed as pip would into a directory that is on the path, here and below."""

    def __init__(self, site: Path) -> None:
        self.site = site
        shutil.copytree(SOURCES, site / "hostile", ignore=shutil.ignore_patterns("__pycache__"))

    def install(self, distribution: str, points: Iterable[str]) -> None:
        """Add a distribution whose entry points are these: `name`, or `name = module`."""
        info = self.site / f"{distribution}-1.0.dist-info"
        info.mkdir()
        lines = [point if "=" in point else f"{point} = hostile.{point}" for point in points]
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join(["[mercato.plugins]", *lines, ""]))
        files = sorted(path for path in self.site.rglob("*.py"))
        (info / "RECORD").write_text("".join(f"{path.relative_to(self.site)},,\n" for path in files))
        importlib.invalidate_caches()

    def found(self, *names: str) -> list[Found]:
        """What `discover` yields of these, in the order of their names."""
        points = sorted(entry_points(group="mercato.plugins"), key=lambda point: point.name)
        return [
            Found(point.name, point.dist.name, point.dist.version, False, point.load)
            for point in points
            if point.dist is not None and (self.site / f"{point.dist.name}-1.0.dist-info").exists()
            if not names or point.name in names
        ]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep))
        yield Installed(site)
    for name in [name for name in sys.modules if name.partition(".")[0] == "hostile"]:
        del sys.modules[name]
