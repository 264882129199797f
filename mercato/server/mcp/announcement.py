"""The announcement of another catalogue: a server that starts with other plugins than the last tells every client."""

from __future__ import annotations

import hashlib

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mercato.plugins.catalog import Catalog
from mercato.server.changes import Change, ChangeBus
from mercato.server.mcp.wire import wire_prompt, wire_resource, wire_template, wire_tool

log = structlog.stdlib.get_logger(__name__)

KEY = "mercato:catalog"


async def announce(catalog: Catalog, redis: Redis, changes: ChangeBus) -> bool:
    """Tell all tenants' sessions and listeners if the catalogue is another than the last that was served; return so."""
    now = fingerprint_of(catalog)
    try:
        before = await redis.set(KEY, now, get=True)
    except (RedisError, OSError) as error:
        log.warning("whether the catalogue is another one cannot be told: Redis is away", error=type(error).__name__)
        return False
    if before in (None, now):
        return False
    await changes.publish(Change("catalog", 0))
    return True


def fingerprint_of(catalog: Catalog) -> bytes:
    """Return a digest of every definition that clients can see."""
    tools = [wire_tool(tool) for tool in catalog.tools.values()]
    prompts = [wire_prompt(prompt) for prompt in catalog.prompts.values()]
    resources = [wire_template(one) if one.is_template else wire_resource(one) for one in catalog.resources]
    dumped = [one.model_dump(by_alias=True, mode="json", exclude_none=True) for one in (*tools, *prompts, *resources)]
    return hashlib.sha256(orjson.dumps(dumped)).hexdigest().encode()
