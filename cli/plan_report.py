"""A plan's report for people, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dataflows.changes.detail import Change
from dataflows.changes.report import Report

_SIGNS: Final = {"new": "+", "changed": "~", "removed": "-"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# From docs/benchmarks.md: the whole flow, with and without models.
_USUAL: Final = "usual are 60,000 to 150,000 records/s on one core"
_FORMAT: Final = 1


def as_data(report: Report) -> dict[str, Any]:
    """The report as plain data; docs/plan.md says what is in it."""
    origin, replay, changes = report.origin, report.replay, report.changes
    return {
        "format": _FORMAT,
        "commit": report.commit or None,
        "compared_with": {
            "kind": origin.kind,
            "commit": (origin.noted.git_commit or None) if origin.noted else None,
            "note": origin.note,
        },
        "changes": {
            "whole": [one.text for one in changes.whole],
            "topics": _changes(changes.topics),
            "views": _changes(changes.views),
            "models": _changes(changes.models),
            "services": _changes(changes.services),
        },
        "replay": {
            "scope": replay.scope,
            "because": list(replay.because),
            "views": list(replay.views),
            "models": list(replay.models),
            "gone_views": list(replay.gone_views),
            "gone_models": list(replay.gone_models),
            "command": replay.command or None,
            "values_need_log_from": _time(report.values_from_us),
        },
        "online_features": dict(report.online_features),
        "other_vectors": list(report.other_vectors),
        "log": {
            "kind": report.log.kind,
            "records": report.log.records,
            "is_estimated": report.log.is_estimated,
            "lost_beginnings": list(report.lost),
            "problem": report.log.problem,
        },
        "duration": {
            "seconds": None if report.seconds is None else round(report.seconds, 1),
            "rate": None if report.rate is None else asdict(report.rate),
        },
        "next": list(report.steps),
    }


def as_lines(report: Report) -> Iterator[str]:
    """The report, line by line; the last one says what to do next."""
    yield from _compared(report)
    changes, replay = report.changes, report.replay
    yield from (f"~ {one.text}" for one in changes.whole)
    sorts = {
        "topic": changes.topics,
        "view": changes.views,
        "model": changes.models,
        "service": changes.services,
    }
    for sort, found in sorts.items():
        for change in found:
            if change.kind != "unchanged":
                yield f"{_SIGNS[change.kind]} {sort} {change.name}: {change.kind}"
                yield from (f"    {one.text}" for one in change.details)
    unchanged = Counter(
        sort for sort, found in sorts.items() for one in found if one.kind == "unchanged"
    )
    if unchanged:
        counted = [_counted(number, sort) for sort, number in unchanged.items()]
        yield f"unchanged: {', '.join(counted)}"
    if report.log.problem and not report.is_reading:
        yield f"note: partitions are not compared: {report.log.problem}"
    if replay.scope != "nothing":
        yield ""
        yield from _replay(report)
        yield from _duration(report)
    yield ""
    yield f"next: {', then '.join(report.steps)}" if report.steps else _done(report)


def _compared(report: Report) -> Iterator[str]:
    origin = report.origin
    what = f"commit {report.commit[:12]}" if report.commit else "the definitions here"
    with_what = {
        "state": "what the state was made of",
        "applied": "what was applied last",
        "unknown": "nothing that is known",
        "nothing": "nothing: no dataflow has run yet",
    }[origin.kind]
    if origin.noted is not None and origin.noted.git_commit:
        with_what += f" (at commit {origin.noted.git_commit[:12]})"
    yield f"{what} compared with {with_what}"
    if origin.note:
        yield f"note: {origin.note}"


def _replay(report: Report) -> Iterator[str]:
    replay = report.replay
    gone = _named(replay.gone_views, replay.gone_models)
    if replay.scope == "everything":
        yield f"replay of everything: {'; '.join(replay.because)}"
    elif report.is_reading:
        yield f"replay of {_named(replay.views, replay.models)}"
    if gone:
        indent = "    " if report.is_reading else ""
        yield f"{indent}state and values that go: {gone}; rows in offline tables stay"
    unchanged = [one.name for one in _all(report) if one.kind == "unchanged"]
    along = [one for one in (*replay.views, *replay.models) if one in unchanged]
    if along and replay.scope == "parts":
        yield f"    unchanged, but read together: {', '.join(along)}"
    if report.values_from_us is not None:
        yield (
            f"    current values need the log from {_time(report.values_from_us)} on (longest "
            "window), older rows of offline tables need its beginning"
        )
    elif report.is_reading:
        yield "    needs the log from its beginning"
    for line in report.lost:
        yield f"    warning: {line}: what came before is in no value that a replay makes"
    if report.online_features:
        kinds = [
            f"{kind}: {', '.join(names)}"
            for kind in ("new", "changed", "gone", "same")
            if (names := [n for n, k in report.online_features.items() if k == kind])
        ]
        yield f"online features that change hands at the cut, {'; '.join(kinds)}"
    yield "until the cut the scorer serves the old values and versions, then the new ones at once"
    for name in report.other_vectors:
        yield (
            f"    model {name} has another vector: versions that `headwater train` made of the "
            "old one are not carried over"
        )


def _duration(report: Report) -> Iterator[str]:
    log, rate = report.log, report.rate
    if not report.is_reading:
        yield "how long: no time, nothing is read"
        return
    if log.records is None:
        yield f"how long: unknown, the log cannot be looked at: {log.problem}"
        return
    records = f"{'some ' if log.is_estimated else ''}{log.records:,} records"
    if rate is None or report.seconds is None:
        yield f"how long: unknown for {records}, nothing was measured here yet; {_USUAL}"
        return
    yield (
        f"how long: about {_long(report.seconds)}: {records} at {rate.events_per_second:,.0f} "
        f"records/s, as measured on {_time(rate.at_us)} with {_counted(rate.views, 'view')}, "
        f"{_counted(rate.models, 'model')}, {_counted(rate.workers, 'worker')}"
    )


def _done(report: Report) -> str:
    if report.changes.is_empty:
        return "nothing to do: the state is what these definitions make"
    return "nothing to do: no state depends on what changed, and it is applied"


def _changes(found: Sequence[Change]) -> list[dict[str, Any]]:
    return [{**asdict(one), "rebuilds": one.rebuilds} for one in found]


def _all(report: Report) -> tuple[Change, ...]:
    return (*report.changes.views, *report.changes.models)


def _named(views: Sequence[str], models: Sequence[str]) -> str:
    parts = []
    for sort, names in (("view", views), ("model", models)):
        if names:
            parts.append(f"{sort}{'s' if len(names) > 1 else ''} {', '.join(names)}")
    return " and ".join(parts)


def _counted(number: int, sort: str) -> str:
    return f"{number} {sort}{'' if number == 1 else 's'}"


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{timedelta(seconds=round(seconds))} (h:mm:ss)"


def _time(time_us: int | None) -> str | None:
    if time_us is None:
        return None
    time_utc = _EPOCH + timedelta(microseconds=time_us)
    return time_utc.isoformat(timespec="seconds").replace("+00:00", "Z")
