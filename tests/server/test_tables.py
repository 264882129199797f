"""What people of tenants wrote, as commands show it."""

from __future__ import annotations

import anyio
import pytest
from typer.testing import CliRunner

from mercato.server.cli import app
from mercato.tenancy.keys import EVERY_SCOPE, create_key
from mercato.tenancy.onboarding import find_owner


@pytest.fixture
def run(runtime, mercato_addresses):
    """Run a command, in a thread of its own."""
    environment = {
        "MERCATO_DATA_DIR": str(runtime.settings.data_dir),
        "DATABASE_URL": mercato_addresses.database_url,
        "REDIS_URL": mercato_addresses.redis_url,
    }

    async def run_it(*arguments):
        return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(app, arguments, env=environment))

    return run_it


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("[/b] x", "[/b] x"),
        ("[red]stop[/red]", "[red]stop[/red]"),
        ("a\x1b[2Jb\x9bc", "a[2Jbc"),
        ("right\u202eleft", "rightleft"),
    ],
)
async def test_the_name_of_a_key_is_shown_as_it_is_and_is_no_markup(runtime, tenant, other_tenant, run, name, shown):
    async with runtime.database.tenant(tenant.id) as db:
        await create_key(db, await find_owner(runtime.database, tenant), name, [EVERY_SCOPE], None)
    listed = await run("key", "list", "--tenant", tenant.slug)
    assert (listed.exit_code, listed.exception) == (0, None)
    assert f" {shown} " in listed.stdout
    assert not {"\x1b", "\x9b", "\u202e"} & set(listed.stdout)
    assert shown not in (await run("key", "list", "--tenant", other_tenant.slug)).stdout
