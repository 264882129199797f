"""The checks: what must hold when it is over."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.chaos.deployment import Shop, Stored
from benchmarks.chaos.fleet import Fleet
from benchmarks.chaos.journal import Journal
from benchmarks.chaos.verdict import Check, at_least, at_most, exactly

KINDS = (
    ("calls that failed though their replica lived", "a call"),
    (
        "sessions and handshakes that did not go on",
        "a handshake",
        "initialize",
        "notifications/initialized",
        "resources/subscribe",
    ),
    ("streams of sessions that hung, were refused or ended", "a session's stream"),
    ("events of sessions left out, or come twice", "an event"),
    ("streams of calls that could not be resumed", "a resumption"),
    ("listening streams that hung, were refused or ended", "a listen stream"),
    ("writes that were never answered", "a write"),
)


def seen_checks(journal: Journal, fleet: Fleet) -> Iterator[Check]:
    """Yield what the clients saw, and how the replicas fared."""
    left = dict(journal.violations)
    for what, *beginnings in KINDS:
        found = [kind for kind in left if kind.startswith(tuple(beginnings))]
        yield exactly(what, sum(left.pop(kind) for kind in found), 0)
    yield exactly("other violations", sum(left.values()), 0)
    yield exactly("replicas that ended by themselves", sum(one.has_crashed for one in fleet.replicas), 0)
    yield at_least("replicas that were killed", len(fleet.killed), 1)


def stored_checks(journal: Journal, shop: Shop, found: Stored) -> Iterator[Check]:
    """Yield what is stored of one tenant, held against what its clients saw."""
    calls, written = journal.calls(shop.slug), journal.written.get(shop.slug, set())
    answered = sum(one.outcome == "answered" for one in calls)
    bound = journal.unflushed(shop.slug)
    yield at_least(f"{shop.slug}: calls admitted; so many were answered", found.admissions, answered)
    yield at_most(f"{shop.slug}: calls admitted; so many were sent", found.admissions, len(calls))
    yield at_most(f"{shop.slug}: usage records; so many were admitted", found.records, found.admissions)
    yield at_most(
        f"{shop.slug}: admitted and not recorded; so many calls were in killed replicas' last moments",
        found.admissions - found.records,
        bound,
    )
    yield at_least(f"{shop.slug}: writes that were answered", len(written), 1)
    yield exactly(f"{shop.slug}: of them, without an effect", len(written - found.notes.keys()), 0)
    twice = [text for text, count in found.notes.items() if count > 1]
    for text in twice:
        journal.violation("a write has more than one effect", f"{text}: {journal.history(text)}")
    yield exactly(f"{shop.slug}: writes with more than one effect", len(twice), 0)
