"""`mercato plugin` from outside: plugins that are installed beside mercato, as files on the path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import Server, run

BASE = '''
from pathlib import Path
from pydantic import BaseModel
from mercato import Category, ToolContext, hookimpl

base = Category("base", "The base.")

class Said(BaseModel):
    text: str

@base.tool(read_only=True)
async def say_base(ctx: ToolContext) -> Said:
    """Say something."""
    return Said(text="base")

@hookimpl
def register_categories():
    return [base]

@hookimpl
def register_migrations():
    return Path(__file__).parent / "base_versions"
'''
MIGRATION = """
from alembic import op
revision, down_revision, branch_labels, depends_on = "0001", None, ("base",), None

def upgrade():
    op.execute("create table base.things (id bigint primary key)")
"""
ABOVE = '''
from base_plugin import Said
from mercato import Category, ToolContext, hookimpl

above = Category("above", "Built on the base.")

@above.tool(read_only=True)
async def say_above(ctx: ToolContext) -> Said:
    """Say something more."""
    return Said(text="above")

@hookimpl
def register_categories():
    return [above]
'''


def install(folder: Path, name: str, source: str) -> None:
    """Install a plugin as pip would leave it."""
    (folder / f"{name}_plugin.py").write_text(source)
    metadata = folder / f"{name}_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[mercato.plugins]\n{name} = {name}_plugin\n")
    (metadata / "RECORD").write_text(f"{name}_plugin.py,,\n{metadata.name}/METADATA,,\n")


@pytest.fixture
def outside(tmp_path: Path) -> dict[str, str]:
    install(tmp_path, "base", BASE)
    install(tmp_path, "above", ABOVE)
    (tmp_path / "base_versions").mkdir()
    (tmp_path / "base_versions" / "0001_base.py").write_text(MIGRATION)
    return {"PYTHONPATH": str(tmp_path)}


def test_a_plugin_is_served_listed_and_dropped_once_nothing_is_built_on_it(data_dir: Path, outside: dict[str, str]):
    server = Server(data_dir, "--demo", **outside)
    try:
        listed = json.loads(run(data_dir, "plugin", "list", "--json", **outside).stdout)
        refused = run(data_dir, "plugin", "drop", "base", "--yes", **outside)
        alone = {**outside, "MERCATO_PLUGINS_BLOCKED": "above"}
        dropped = run(data_dir, "plugin", "drop", "base", "--yes", "--json", **alone)
        again = run(data_dir, "plugin", "drop", "base", "--yes", "--json", **alone)
    finally:
        server.stop()
    assert {row["plugin"]: row["status"] for row in listed}.items() >= {("base", "loaded"), ("above", "loaded")}
    assert refused.returncode == 1
    assert "above would break without base" in refused.stderr
    assert json.loads(dropped.stdout) == {"plugin": "base", "dropped": True}
    assert json.loads(again.stdout) == {"plugin": "base", "dropped": False}


def test_nothing_is_dropped_without_a_yes(data_dir: Path, outside: dict[str, str]):
    done = run(data_dir, "plugin", "drop", "commerce", **outside)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["mercato", "public", "nothing; drop schema commerce"])
def test_what_is_no_plugin_is_not_dropped(data_dir: Path, name: str):
    done = run(data_dir, "plugin", "drop", name, "--yes")
    assert done.returncode == 1
    assert "is no plugin's schema" in done.stderr
