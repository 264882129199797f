"""The second public module, for plugins that administer: what the server and the tenant's own records let be seen.

Every function takes the context of a call and acts for its tenant only. What is for owners and admins is said where a
tool is declared: `@category.tool(admin=True, …)`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlmodel import select

from mercato.plugins.background import Declared, Kind, declared_by, enabled
from mercato.plugins.jobs import Backoff
from mercato.plugins.payloads import Fault
from mercato.tenancy import audit, circuits, configuration, exports, job_runs, people, tenant_runs, usage_summary
from mercato.tenancy.assistant import SECTION as ASSISTANT
from mercato.tenancy.assistant import AssistantSettings
from mercato.tenancy.audit import Entry
from mercato.tenancy.configuration import PROFILE
from mercato.tenancy.connections import Connection
from mercato.tenancy.errors import InvalidValue, NotFound
from mercato.tenancy.exports import Export
from mercato.tenancy.grants import Grant
from mercato.tenancy.job_runs import Figures, Run
from mercato.tenancy.ledger import ENDED, State
from mercato.tenancy.memberships import Role
from mercato.tenancy.pages import Page
from mercato.tenancy.people import Person
from mercato.tenancy.tasks import RUN_TOOL
from mercato.tenancy.usage_summary import Consumed, ConsumedBy, Days, UsageBy, UsageSummary
from mercato.tools.administration import DisabledPlugin, LoadedPlugin, ServiceHealth, ServiceName, Status
from mercato.tools.configuring import check_given, refusal_of, schemas_of
from mercato.tools.context import ToolContext
from mercato.tools.errors import ToolError
from mercato.tools.schema import Schema

__all__ = [
    "PROFILE",
    "Changed",
    "Consumed",
    "ConsumedBy",
    "Days",
    "Declared",
    "DisabledPlugin",
    "Entry",
    "Export",
    "Fault",
    "Figures",
    "Kind",
    "LoadedPlugin",
    "Page",
    "Person",
    "Process",
    "Role",
    "Run",
    "Section",
    "ServiceHealth",
    "ServiceName",
    "State",
    "Status",
    "UsageBy",
    "UsageSummary",
    "cancel_run",
    "check_job",
    "count_admissions",
    "declared_work",
    "disabled_plugins",
    "find_declared",
    "find_user",
    "list_audit_entries",
    "list_runs",
    "list_users",
    "loaded_plugins",
    "probe",
    "process",
    "read_config",
    "read_export_part",
    "read_figures",
    "read_outages",
    "read_paused",
    "read_usage",
    "retry_run",
    "store_export",
    "switched_on",
    "update_config",
]


@dataclass(frozen=True, slots=True)
class Process:
    """The process that answers."""

    version: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the tenant's configuration: its values, secrets masked, and the schema of each."""

    name: str
    values: Mapping[str, Any]
    schemas: Mapping[str, Schema]


@dataclass(frozen=True, slots=True)
class Changed:
    """A setting that has another value now. Secrets are masked."""

    key: str
    old: Any
    new: Any


def process(ctx: ToolContext) -> Process:
    """Return which version runs here, and since when."""
    return Process(ctx._host.administration.version, ctx._host.administration.started_at)


async def probe(ctx: ToolContext, only: ServiceName | None = None) -> Sequence[ServiceHealth]:
    """Ask every service that the server stands on whether it answers, or only one; takes three seconds at most."""
    return await ctx._host.administration.probe(only)


def loaded_plugins(ctx: ToolContext) -> Sequence[LoadedPlugin]:
    """Return the plugins that serve, by name."""
    return ctx._host.administration.loaded_plugins()


def disabled_plugins(ctx: ToolContext) -> Sequence[DisabledPlugin]:
    """Return the plugins that were taken out, and why."""
    return ctx._host.administration.disabled_plugins()


async def list_users(
    ctx: ToolContext,
    *,
    role: Role | None = None,
    search: str | None = None,
    after_id: int | None = None,
    limit: int = 25,
) -> Page[Person]:
    """Return members of the tenant by id, above one to go on from there; `search` looks in names and addresses."""
    return await people.list_people(ctx.db, role=role, search=search, after_id=after_id, limit=limit)


async def find_user(ctx: ToolContext, user_id: int) -> Person:
    """Return a member, be it one who has left. Raises `ToolError`."""
    try:
        return await people.find_person(ctx.db, user_id)
    except NotFound as error:
        raise ToolError(str(error), field="user_id", next_step="`list_users` shows who there is.") from None


async def list_audit_entries(
    ctx: ToolContext,
    *,
    user_id: int | None = None,
    action: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before_id: int | None = None,
    limit: int = 25,
) -> Page[Entry]:
    """Return what was written for the tenant, newest first, from `since` to just before `until`."""
    return await audit.list_entries(
        ctx.db, user_id=user_id, action=action, since=since, until=until, before_id=before_id, limit=limit
    )


async def store_export(ctx: ToolContext, name: str, parts: AsyncIterable[str]) -> Export:
    """Store a file for the person who asked, part by part as it is made; it is there for seven days.

    A resource of the plugin shows the parts; `name` tells its files from those of others. Raises `ToolError` where the
    tenant keeps too much already.
    """
    try:
        return await exports.store_export(ctx.db, name, ctx.user.user_id, parts)
    except InvalidValue as error:
        text = "Older ones go after seven days; export a shorter time, or use what is there."
        raise ToolError(str(error), next_step=text) from None


async def read_export_part(ctx: ToolContext, name: str, export_id: str, part: int) -> str:
    """Return a part of a file that was made for the person who asks. Raises `LookupError`."""
    try:
        return await exports.read_export_part(ctx.db, name, ctx.user.user_id, export_id, part)
    except NotFound as error:
        raise LookupError(str(error)) from None


async def read_usage(
    ctx: ToolContext, by: UsageBy, days: Days, *, after: tuple[int, str] | None = None, limit: int = 25
) -> UsageSummary:
    """Return what the tenant's calls of these days came to, in all and by group, what was called most first.

    `after` is the calls and the key of the last group that was shown, to go on from there.
    """
    return await usage_summary.read_usage(ctx.db, by, days, after=after, limit=limit)


async def count_admissions(ctx: ToolContext, days: Days) -> int | None:
    """Return how many of the tenant's calls were let in on these days; None where Redis does not answer."""
    return await ctx._host.administration.admissions(ctx.tenant.id, days)


def declared_work(ctx: ToolContext) -> list[Declared]:
    """Return the events and jobs of the plugins that the tenant has on, by name."""
    return declared_by(enabled(ctx._host.administration.declarations(), ctx._access.categories))


def find_declared(ctx: ToolContext, name: str, field: str, kind: Kind | None = None) -> Declared:
    """Return an event or job by its name. Raises `ToolError`, which names `field` and the nearest that there is."""
    known = {one.name: one for one in declared_work(ctx) if kind in {None, one.kind}}
    if name == RUN_TOOL:
        raise ToolError(
            f"{name} is the server's own job behind tasks: nobody else enqueues it, and its payload is not told.",
            field=field,
            next_step="`list_jobs` shows its runs.",
        )
    if name not in known:
        near = get_close_matches(name[:100], sorted(known), 1)
        raise ToolError(
            f"There is no {kind or 'event or job'} {name!r}.",
            field=field,
            next_step=f"Did you mean `{near[0]}`?" if near else "`list_job_events` shows what there is.",
        )
    return known[name]


def check_job(ctx: ToolContext, name: str, field: str) -> None:
    """Raise `ToolError` where runs of a job cannot be, as neither the tenant's plugins nor the server declare it."""
    if name != RUN_TOOL:
        find_declared(ctx, name, field, "job")


async def list_runs(
    ctx: ToolContext,
    *,
    state: State | None = None,
    job: str | None = None,
    run_id: int | None = None,
    before_id: int | None = None,
    limit: int = 25,
) -> Page[Run]:
    """Return runs of the tenant's jobs, the newest first. Secrets are masked."""
    page = await tenant_runs.list_runs(ctx.db, state=state, name=job, run_id=run_id, before_id=before_id, limit=limit)
    return replace(page, items=[_masked(run) for run in page.items])


async def read_figures(ctx: ToolContext) -> list[Figures]:
    """Return how many runs the tenant has, by job and state."""
    return await tenant_runs.read_figures(ctx.db)


async def read_outages(ctx: ToolContext) -> dict[str, tuple[str, datetime]]:
    """Return the integration that a job waits for, and until when, by the names of jobs that wait for one."""
    is_open = await circuits.read_own(ctx.db)
    jobs = [job for plugin in ctx._host.administration.declarations() for job in plugin.jobs] if is_open else []
    return {job.name: (job.talks_to, is_open[job.talks_to]) for job in jobs if job.talks_to in is_open}


async def read_paused(ctx: ToolContext) -> set[str]:
    """Return the jobs whose schedule is paused for this tenant alone."""
    return await tenant_runs.read_paused(ctx.db)


async def retry_run(ctx: ToolContext, run_id: int) -> tuple[Run, bool]:
    """Let a run of the tenant run again that is dead, cancelled or waits for another attempt.

    Returns it as it is now, and whether that is new: one that is queued, runs or is done stays. Raises `ToolError`.
    """
    return await _steer(ctx, run_id, partial(_retry, ctx))


async def cancel_run(ctx: ToolContext, run_id: int) -> tuple[Run, bool]:
    """End a run of the tenant; return it as it is now, and whether that is new. Raises `ToolError`.

    One that runs is told, and ends within seconds; one that has ended stays as it is.
    """
    return await _steer(ctx, run_id, partial(_cancel, ctx))


async def _steer(ctx: ToolContext, run_id: int, act: Callable[[Any, Run], Awaitable[bool]]) -> tuple[Run, bool]:
    connection = await ctx.db.session.connection()
    try:
        changed = await act(connection, await job_runs.read_run(connection, ctx.tenant.id, run_id))
        return _masked(await job_runs.read_run(connection, ctx.tenant.id, run_id)), changed
    except (NotFound, InvalidValue) as error:
        raise ToolError(str(error), field="run_id", next_step="`list_jobs` shows the runs there are.") from None


async def _retry(ctx: ToolContext, connection: Any, run: Run) -> bool:
    if run.state not in {"dead", "cancelled", "retrying"}:
        return False
    jobs = {job.name: job for plugin in ctx._host.administration.declarations() for job in plugin.jobs}
    retries = jobs[run.name].retries if run.name in jobs else Backoff()
    await job_runs.retry(connection, ctx.tenant.id, run.id, retries.attempts)
    return True


async def _cancel(ctx: ToolContext, connection: Any, run: Run) -> bool:
    if run.state in ENDED or run.cancel_asked:
        return False
    await job_runs.cancel(connection, ctx.tenant.id, run.id)
    ctx._after_commit.append(partial(ctx._host.administration.run_changed, run))
    return True


def _masked(run: Run) -> Run:
    if run.name == RUN_TOOL:  # who asked is told by the audit; how they signed in is nobody's business here
        asked = {name: run.payload["principal"].get(name) for name in ("kind", "user_id")}
        run = replace(run, payload={**run.payload, "principal": asked})
    shown = ("payload", "key", "progress", "result", "error")
    return replace(run, **{name: audit.masked(getattr(run, name)) for name in shown})


async def switched_on(ctx: ToolContext) -> tuple[list[str], list[str]]:
    """Return the categories that the tenant has on, and the integrations that it has connected."""
    categories = await ctx.db.rows(select(Grant.category).order_by(Grant.category))
    integrations = await ctx.db.rows(select(Connection.integration).distinct().order_by(Connection.integration))
    return [row[0] for row in categories], [row[0] for row in integrations]


async def read_config(ctx: ToolContext, section: str | None = None) -> list[Section]:
    """Return the tenant's configuration, or one section of it. Raises `ToolError`, which names the sections."""
    models = _models(ctx)
    chosen = models if section is None else {section: _model(models, section)}
    values = await configuration.read_sections(ctx.db, chosen)
    return [Section(name, audit.masked(values[name]), schemas_of(model)) for name, model in chosen.items()]


async def update_config(ctx: ToolContext, section: str, given: Mapping[str, Any]) -> tuple[list[Changed], Section]:
    """Store values over a section's present ones; return what is different now, and the section.

    Raises `ToolError`, with the field and its allowed values, and then nothing is stored. After the commit every
    process forgets what it knew, so that the next call sees the change.
    """
    model = _model(_models(ctx), section)
    check_given(section, model, given)
    if section == ASSISTANT:
        _check_names(ctx, given)
    try:
        before, after = await configuration.merge_section(ctx.db, section, model, given)
    except ValidationError as error:
        raise refusal_of(section, model, error) from None
    shown_before, shown_after = audit.masked(before), audit.masked(after)
    changed = [Changed(key, shown_before[key], shown_after[key]) for key in given if before[key] != after[key]]
    if changed:
        ctx._after_commit.append(partial(ctx._host.administration.access_changed, ctx.tenant.id))
    return changed, Section(section, shown_after, schemas_of(model))


def _check_names(ctx: ToolContext, given: Mapping[str, Any]) -> None:
    """Refuse names of what there is not: nobody would notice the misspelling. Raises `ToolError`."""
    known = {
        "pinned_tools": ctx._host.administration.tool_names(),
        "unconfirmed_categories": {name for plugin in loaded_plugins(ctx) for name in plugin.categories},
    }
    for setting, names in known.items():
        value = given.get(setting)
        missing = [str(name) for name in value if name not in names] if isinstance(value, list) else []
        if missing:
            what, near = setting.partition("_")[2], get_close_matches(missing[0], sorted(names), 1)
            raise ToolError(
                f"There are no {what} {', '.join(missing)}. Nothing was changed.",
                field=f"settings.{setting}",
                next_step=f"Did you mean `{near[0]}`?" if near else None,
            )


def _models(ctx: ToolContext) -> Mapping[str, type[BaseModel]]:
    own: dict[str, type[BaseModel]] = {PROFILE: configuration.TenantProfile, ASSISTANT: AssistantSettings}
    return own | {name: model for name, model in ctx._host.administration.tenant_settings().items() if name not in own}


def _model(models: Mapping[str, type[BaseModel]], section: str) -> type[BaseModel]:
    if section not in models:
        raise ToolError(f"There is no section {section!r}.", field="section", allowed=list(models))
    return models[section]
