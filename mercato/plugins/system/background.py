"""Background: what the tenant's plugins tell of (events) and do later (jobs), with the payload of each."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from pydantic import BaseModel, Field

from mercato import Cursor, Limit, ToolContext, ToolError, admin, decode_cursor, encode_cursor
from mercato.plugins.system.category import system

_LIST = "job_events"
_FOUND_BY = "event_name"
EventName = Annotated[
    str, Field(min_length=1, max_length=120, description="An event or job, as `list_job_events` names it.")
]


class JobEvent(BaseModel):
    """An event with the jobs that listen to it, or a job with what starts it: a clock (cron), an event, or a call.

    The clock is the tenant's with `each_tenant`, else UTC.
    """

    name: str
    kind: admin.Kind
    category: str
    description: str
    listeners: list[str]
    listens_to: str | None
    schedule: str | None
    each_tenant: bool


class JobEvents(BaseModel):
    """A page of events and jobs, by name."""

    events: list[JobEvent]
    categories: list[str]
    total_count: int
    next_cursor: str | None


class JobEventSchema(JobEvent):
    """One of them, with the JSON Schema of its payload."""

    payload: dict[str, Any]
    required_fields: list[str]
    example_payload: dict[str, Any]


class PayloadError(BaseModel):
    """Something that is wrong with a payload; `field` is a path."""

    field: str
    reason: str


class PayloadCheck(BaseModel):
    """Whether the payload would be taken."""

    event_name: str
    kind: admin.Kind
    valid: bool
    errors: list[PayloadError]


class JobCategory(BaseModel):
    """What one plugin declares; `scheduled` of its jobs run by the clock."""

    category: str
    events: int
    jobs: int
    scheduled: int


class JobCategories(BaseModel):
    """The plugins that declare anything."""

    categories: list[JobCategory]
    total_categories: int
    total_events: int
    total_jobs: int


@system.tool(read_only=True)
async def list_job_events(
    ctx: ToolContext,
    category: Annotated[str | None, Field(max_length=64, description="Only what this plugin declares.")] = None,
    kind: Annotated[admin.Kind | None, Field(description="Only events, or only jobs.")] = None,
    search: Annotated[
        str | None, Field(min_length=1, max_length=200, description="Part of a name or description.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 25,
) -> JobEvents:
    """List the kinds of events and background jobs there are here. Runs of jobs are in `list_jobs`."""
    every = admin.declared_work(ctx)
    categories = sorted({one.plugin for one in every})
    if category is not None and category not in categories:
        raise ToolError(f"No plugin {category!r} declares events or jobs.", field="category", allowed=categories)
    found = [one for one in every if category in {None, one.plugin} and kind in {None, one.kind} and _has(one, search)]
    after = "" if cursor is None else decode_cursor(cursor, _LIST, (str,))[0]
    left = [one for one in found if one.name > after]
    return JobEvents(
        events=[JobEvent(**_shown(one)) for one in left[:limit]],
        categories=categories,
        total_count=len(found),
        next_cursor=encode_cursor((left[limit - 1].name,), _LIST) if len(left) > limit else None,
    )


@system.tool(read_only=True)
async def get_job_event_schema(ctx: ToolContext, event_name: EventName) -> JobEventSchema:
    """Get what one event tells or one job takes: the JSON Schema of its payload, and an example that fits."""
    one = admin.find_declared(ctx, event_name, _FOUND_BY)
    return JobEventSchema(
        **_shown(one),
        payload=one.schema,
        required_fields=list(one.schema.get("required", ())),
        example_payload=one.example,
    )


@system.tool(read_only=True)
async def validate_job_payload(
    ctx: ToolContext,
    event_name: EventName,
    payload: Annotated[dict[str, Any], Field(description="What would be told or enqueued.")],
) -> PayloadCheck:
    """Check a payload as when an event is told or a job enqueued, without doing either; say all that is wrong."""
    one = admin.find_declared(ctx, event_name, _FOUND_BY)
    errors = [PayloadError(field=fault.field, reason=fault.reason) for fault in one.faults(payload)]
    return PayloadCheck(event_name=one.name, kind=one.kind, valid=not errors, errors=errors)


@system.tool(read_only=True)
async def get_job_categories(ctx: ToolContext) -> JobCategories:
    """Count the kinds of events and background jobs by the plugin that declares them."""
    every = admin.declared_work(ctx)
    kinds = Counter((one.plugin, one.kind) for one in every)
    clocked = Counter(one.plugin for one in every if one.schedule is not None)
    names = sorted({one.plugin for one in every})
    return JobCategories(
        categories=[
            JobCategory(category=name, events=kinds[name, "event"], jobs=kinds[name, "job"], scheduled=clocked[name])
            for name in names
        ],
        total_categories=len(names),
        total_events=sum(one.kind == "event" for one in every),
        total_jobs=sum(one.kind == "job" for one in every),
    )


def _has(one: admin.Declared, search: str | None) -> bool:
    return search is None or search.lower() in f"{one.name} {one.description}".lower()


def _shown(one: admin.Declared) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "category": one.plugin,
        "description": one.description,
        "listeners": list(one.listeners),
        "listens_to": one.listens_to,
        "schedule": one.schedule,
        "each_tenant": one.each_tenant,
    }
