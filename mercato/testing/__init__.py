"""The test kit of plugin authors: fixtures that run a plugin in the real server, over a real database.

Install mercato and the fixtures are there (a `pytest11` entry point): `tenant`, `other_tenant`, `mcp`, `other_mcp`,
`tasks`, `other_tasks`, `ctx`, `run_jobs`, `http`, `connect`, `assert_tool_snapshot`, and below them `database` and
`runtime`. Set `anyio_mode = "auto"` in pytest's configuration and write tests as plain `async def` functions.
"""

from __future__ import annotations
