"""`mercato audit`: whether the log is whole; what it says of somebody, erased; what is too old, pruned."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercato.server.cli.session import AsJson, DataDir, TenantSlug, read_settings, with_runtime
from mercato.server.cli.terminal import say, say_either, say_json, stop

if TYPE_CHECKING:
    from mercato.server.runtime import Runtime
    from mercato.tenancy.audit_head import End
    from mercato.tenancy.audit_pruning import Pruned
    from mercato.tenancy.audit_verification import Verdict

app = typer.Typer(help="Verify the audit log, erase what it says of somebody, prune what is old.", no_args_is_help=True)
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("verify")
def verify(
    tenant: TenantSlug,
    known: Annotated[
        str | None, typer.Option(help="An end that this command told earlier, NUMBER:SEAL: it must still be there.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say whether every sealed entry is there and unchanged, and where not. Exit code 1 where the chain breaks."""
    noted = None if known is None else _end(known)

    async def work(runtime: Runtime) -> Verdict:
        from mercato.tenancy.audit_signer import AuditSigner
        from mercato.tenancy.audit_verification import verify as verify_chain
        from mercato.tenancy.tenants import find_tenant

        found = await find_tenant(runtime.database, tenant)
        return await verify_chain(runtime.database, AuditSigner(runtime.ring), found.id, known=noted)

    verdict = with_runtime(read_settings(data_dir), work)
    if as_json:
        say_json(_plain(tenant, verdict))
    else:
        _tell(tenant, verdict)
    raise SystemExit(0 if verdict.holds else 1)


def _end(text: str) -> End:
    from mercato.tenancy.audit_head import End

    number, _, seal = text.partition(":")
    try:
        return End(int(number), bytes.fromhex(seal))
    except ValueError:
        stop(f"{text!r} is no NUMBER:SEAL as `mercato audit verify` tells it.")


def _plain(tenant: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "holds": verdict.holds,
        "entries": verdict.entries,
        "erased": verdict.erased,
        "waiting": verdict.waiting,
        "pruned_up_to": verdict.pruned,
        "end": _written(verdict.end),
        "breaks": [{"number": one.number, "reason": one.reason} for one in verdict.breaks],
    }


def _tell(tenant: str, verdict: Verdict) -> None:
    if verdict.holds:
        say(f"The audit of {tenant} holds: {_extent(verdict)}.")
    else:
        say(f"The audit of {tenant} does not hold. It breaks first at number {verdict.breaks[0].number}.")
        for one in verdict.breaks:
            say(f"  {one.reason}")
    if verdict.pruned:
        say(f"Numbers up to {verdict.pruned} were pruned.")
    if verdict.waiting:
        say(f"{verdict.waiting} entries are not sealed yet; a server does that within seconds.")
    if verdict.holds and verdict.end.number:
        say(f"Its end, to be noted elsewhere for --known: {_written(verdict.end)}")


def _extent(verdict: Verdict) -> str:
    if not verdict.entries:
        return "no entry is sealed"
    erased = f", {verdict.erased} of them erased" if verdict.erased else ""
    return f"{verdict.entries} entries, up to number {verdict.end.number}{erased}"


def _written(end: End) -> str | None:
    return f"{end.number}:{end.seal.hex()}" if end.number else None


@app.command("erase")
def erase(
    tenant: TenantSlug,
    user: Annotated[str | None, typer.Option(help="Erase what this person did: their e-mail address or id.")] = None,
    entry: Annotated[list[int] | None, typer.Option(help="Erase this entry, by id; may be repeated.")] = None,
    yes: Yes = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Empty the arguments and effects of entries, when somebody asks for it. Who did what, and when, stays."""
    if (user is None) == (not entry):
        stop("say whose entries to erase (--user) or which (--entry).")
    what = f"what {user} did" if user else f"{len(entry or ())} entries"
    _ask(yes, f"Erase the arguments and effects of {what}? This cannot be undone.", "nothing was erased.")

    async def work(runtime: Runtime) -> int:
        from mercato.tenancy.audit_erasure import erase as erase_entries
        from mercato.tenancy.audit_signer import AuditSigner
        from mercato.tenancy.onboarding import local_principal
        from mercato.tenancy.tenants import find_tenant

        found = await find_tenant(runtime.database, tenant)
        principal = await local_principal(runtime.database, found)
        user_id = None if user is None else await _user_id(runtime, user)
        signer = AuditSigner(runtime.ring)
        return await erase_entries(runtime.database, signer, principal, user_id=user_id, entry_ids=entry or ())

    erased = with_runtime(read_settings(data_dir), work)
    say_either(as_json, {"tenant": tenant, "erased": erased}, f"{erased} entries of {tenant} are erased.")


def _ask(yes: bool, question: str, otherwise: str) -> None:
    if not yes and not typer.confirm(question, err=True):
        stop(otherwise)


async def _user_id(runtime: Runtime, user: str) -> int:
    """Return the id of a person: also of one who is no member any more."""
    from mercato.tenancy.accounts import find_account

    return int(user) if user.isdecimal() else (await find_account(runtime.database, user)).user_id


@app.command("prune")
def prune(
    tenant: TenantSlug,
    before: Annotated[str, typer.Option(help="Remove what is older: a day of the tenant's, or a time with offset.")],
    even_if_broken: Annotated[
        bool, typer.Option("--even-if-broken", help="Although what goes does not verify; afterwards nobody can tell.")
    ] = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove old entries, and leave a signed anchor with which the chain begins from then on."""
    _ask(yes, f"Remove the entries of {tenant} from before {before}? This cannot be undone.", "nothing was removed.")

    async def work(runtime: Runtime) -> Pruned:
        from mercato.tenancy.audit_pruning import prune as prune_chain
        from mercato.tenancy.audit_signer import AuditSigner
        from mercato.tenancy.onboarding import local_principal
        from mercato.tenancy.tenants import find_tenant

        found = await find_tenant(runtime.database, tenant)
        principal = await local_principal(runtime.database, found)
        limit, signer = _time(before, found.timezone), AuditSigner(runtime.ring)
        return await prune_chain(runtime.database, signer, principal, limit, even_if_broken=even_if_broken)

    pruned = with_runtime(read_settings(data_dir), work)
    said = {"tenant": tenant, "pruned": pruned.entries, "pruned_up_to": pruned.number}
    text = f"{pruned.entries} entries of {tenant} are gone, up to number {pruned.number}."
    say_either(as_json, said, text if pruned.entries else f"{tenant} has no sealed entries from before {before}.")


def _time(text: str, timezone: str) -> datetime:
    from zoneinfo import ZoneInfo

    from mercato.tenancy.errors import InvalidValue

    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue(f"{text!r} is no day such as 2026-01-31, and no time such as 2026-01-31T12:00Z.") from None
    return time if time.tzinfo else time.replace(tzinfo=ZoneInfo(timezone))
