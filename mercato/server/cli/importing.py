"""`mercato import`: bring a tenant's data from files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercato.server.cli.session import AsJson, DataDir, read_settings, with_runtime
from mercato.server.cli.terminal import say, say_json, stop, tell

if TYPE_CHECKING:
    from mercato.plugins.importers import Importer, ImportReport, Progress
    from mercato.server.runtime import Runtime

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
INTERRUPTED = 130
"""Exit code of what was ended by Ctrl-C, as shells have it."""


def import_(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="The importer; without it, those there are are listed.")] = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant's slug.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Import data: `mercato import shopify-csv --tenant acme --orders orders_export.csv`.

    Each importer has options of its own for its files. Running it again, also after an interruption, is safe.
    """
    settings = read_settings(data_dir)
    kept: Counter[str] = Counter()

    async def work(runtime: Runtime) -> ImportReport | None:
        from mercato.plugins.importers import ImportRefused
        from mercato.server.importing import run_importer
        from mercato.tenancy.tenants import find_tenant

        importers = {importer.name: importer for plugin in runtime.catalog.plugins for importer in plugin.importers}
        if name is None:
            _list(importers, as_json)
            return None
        if name not in importers:
            stop(f"there is no importer {name!r}. There are: {', '.join(importers)}.", 2)
        files = _files(importers[name], context.args)
        if tenant is None:
            stop("say for which tenant: --tenant SLUG.", 2)
        found = await find_tenant(runtime.database, tenant)
        with _progress(as_json) as progress:
            try:
                return await run_importer(runtime.database, found, importers[name], files, progress, kept)
            except ImportRefused as refusal:
                stop(f"{refusal} Kept from before: {_counted(kept)}." if kept else str(refusal))

    try:
        report = with_runtime(settings, work)
    except KeyboardInterrupt:
        stop(f"interrupted. Kept so far: {_counted(kept)}. Running it again completes it.", INTERRUPTED)
    if report is not None:
        _say_report(report, as_json)


def _list(importers: dict[str, Importer], as_json: bool) -> None:
    if as_json:
        say_json([{"name": one.name, "files": dict(one.files)} for one in importers.values()])
        return
    for one in importers.values():
        say(f"{one.name}: {one.description}")
        for option, what in one.files.items():
            say(f"    --{option} FILE   {what}")


def _files(importer: Importer, arguments: list[str]) -> dict[str, Path]:
    """Return the files given. Ends the command where an option is unknown or a file is not there."""
    files: dict[str, Path] = {}
    rest = [part for argument in arguments for part in argument.split("=", 1)]
    for option, value in zip(rest[::2], [*rest[1::2], ""], strict=False):
        key = option.removeprefix("--")
        if key not in importer.files or not value:
            known = ", ".join(f"--{known} FILE" for known in importer.files) or "none"
            stop(f"{option!r} is no option of {importer.name}. Its files: {known}.", 2)
        files[key] = Path(value)
        if not files[key].is_file():
            stop(f"there is no file {value}.", 2)
    if importer.files and not files:
        stop(f"name at least one file: {', '.join(f'--{option} FILE' for option in importer.files)}.", 2)
    return files


@contextmanager
def _progress(as_json: bool) -> Iterator[Progress]:
    """Show bars on stderr; nothing where a program reads."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), disable=as_json) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell


def _say_report(report: ImportReport, as_json: bool) -> None:
    if as_json:
        files = [str(path) for path in report.reject_files]
        counts = {"counts": dict(report.counts), "rejected": report.rejected}
        say_json({**counts, "reject_files": files, "stopped": list(report.stopped)})
    else:
        say(f"Imported: {_counted(report.counts)}")
        if report.rejected:
            say(f"Rejected: {report.rejected:,} rows, listed with line and reason in:")
            for path in report.reject_files:
                say(f"  {path}")
    for sentence in report.stopped:
        tell(f"mercato: {sentence}")
    if report.stopped:
        raise SystemExit(1)


def _counted(counts: Mapping[str, int]) -> str:
    listed = (f"{count:,} {what.replace('_', ' ')}" for what, count in counts.items() if count)
    return ", ".join(listed) or "nothing new"
