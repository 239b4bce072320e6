"""`headwater verify`: whether what was served is what the log says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.failures import FAILED, CommandError
from cli.repository_option import RepoOption, require_repository
from cli.tables import print_table

if TYPE_CHECKING:
    from dataflows.verify.reading import Progress
    from dataflows.verify.report import Example, FeatureFound, ModelFound, Report

EXAMPLE = "headwater verify --from 2013-12-30 --max-different 0.001"
_HEADER = ("feature", "compared", "equal", "stale", "different", "largest difference")
_LAGS = ("stale by (median)", "(most)")


def verify(
    model: Annotated[str, typer.Option(help="Of this model only.")] = "",
    from_: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Served as of this moment or later.")
    ] = "",
    to: Annotated[str, typer.Option(metavar="TIME", help="Served as of before this one.")] = "",
    sample: Annotated[
        int, typer.Option(min=1, help="So many of the served rows, always the same ones.")
    ] = 100_000,
    max_different: Annotated[
        float, typer.Option(min=0, max=1, help="Fail if more of any feature is different.")
    ] = 0.0,
    max_lag: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds of event time; what is stale by more is different."),
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, max=1_000, help="So many of each kind, for each model.")
    ] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
    repo: RepoOption = None,
) -> None:
    """Replay the log for what the prediction log says was served, and compare each feature.

    A served value is equal to the one that was current at its moment, or stale: an earlier one of
    the same entity, or different. Nothing is changed; everything may run meanwhile. TIME is event
    time: 2013-12-30, or 2013-12-30T18:00:00Z.
    """
    from cli.loading import load_quietly
    from contracts.settings import DataflowSettings
    from dataflows.verify.verify import Terms
    from dataflows.verify.verify import verify as verify_served

    terms = Terms(
        models=(model,) if model else (),
        from_us=_time_us("--from", from_),
        to_us=_time_us("--to", to),
        rows_max=sample,
        different_max=max_different,
        lag_us_max=None if max_lag is None else int(max_lag * 1e6),
        examples_max=examples,
    )
    folder = require_repository(repo)
    settings = DataflowSettings.for_repo(folder)
    repository = load_quietly(folder)
    with _told() as told:
        report = verify_served(repository.plan, repository.transforms, settings, terms, told)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        _print(report)
    if not report.compared:
        raise CommandError(
            "nothing was compared: no served rows in the prediction log that the definitions and "
            "the log tell about; see what was skipped, and --model, --from and --to"
        )
    if not report.is_good:
        raise typer.Exit(FAILED)


def _time_us(option: str, text: str) -> int | None:
    """A moment in microseconds since 1970; one without a zone is of UTC."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write 2013-12-30 or 2013-12-30T18:00:00Z", param_hint=option
        ) from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return round(found.timestamp()) * 1_000_000 + found.microsecond


def _print(report: Report) -> None:
    for name, model in report.models.items():
        if not report.counts.rows[name]:
            continue
        typer.echo(f"{name}: {_rows_line(report, name, model)}")
        if not model.rows.compared:
            continue
        rows = [_cells(feature, one) for feature, one in model.features.items()]
        print_table((*_HEADER, *_LAGS), rows)
        for example in model.examples:
            typer.echo(_example_line(example))
    counts = report.counts
    if counts.broken:
        typer.echo(f"{counts.broken:,} of {counts.records:,} records in the log cannot be read")
    if counts.other_models and len(report.models) != 1:
        typer.echo(f"{counts.other_models:,} records are of models that definitions.py has not")
    if report.compared:
        typer.echo(
            f"{'as it should be' if report.is_good else 'NOT as it should be'}: of the worst "
            f"feature {report.different_share:.4%} is different, {report.different_max:.4%} may be "
            f"({report.events:,} events replayed)"
        )


def _rows_line(report: Report, name: str, model: ModelFound) -> str:
    rows, skipped = model.rows, report.counts.skipped[name]
    parts = [
        f"{report.counts.rows[name]:,} rows served, {rows.compared:,} compared: "
        f"{rows.equal:,} equal, {rows.stale:,} stale, {rows.different:,} different"
    ]
    others = {
        "not yet known, the log has not come so far": rows.not_yet_known,
        "without a value that the log tells about": rows.incomparable,
        "of versions with other features than definitions.py now": skipped.other_schema,
        "not as the model's schema has them": skipped.unlike,
        "of entities that were forgotten": skipped.forgotten,
    }
    return "; ".join([*parts, *(f"{count:,} {what}" for what, count in others.items() if count)])


def _cells(name: str, found: FeatureFound) -> tuple[str, ...]:
    told = found.to_json()
    different = f"{found.different:,}"
    if found.ahead:
        different += f" ({found.ahead:,} are later values)"
    return (
        name,
        f"{found.compared:,}",
        f"{found.equal:,}",
        f"{found.stale:,}",
        different,
        "–" if found.difference_max is None else f"{found.difference_max:.6g}",
        _seconds(told["stale_seconds_p50"]),
        _seconds(told["stale_seconds_max"]),
    )


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:,.3f} s"


def _example_line(example: Example) -> str:
    inputs = " ".join(f"{name}={value}" for name, value in example.inputs.items())
    when = {
        "stale": f"stale by {_seconds(example.lag_seconds)}",
        "ahead": f"different: it is current {_seconds(example.lag_seconds)} later",
        "different": "different",
    }[example.verdict]
    return (
        f"  {example.feature} was {_value(example.served)}, is {_value(example.current)} at "
        f"{example.at} ({when}; request {example.key or example.request_id}, version "
        f"{example.version}; {inputs})"
    )


def _value(value: float | None) -> str:
    return "null" if value is None else repr(value)


@contextmanager
def _told() -> Iterator[Callable[[str, Progress], None]]:
    """Shows how far the logs are read: bars on a terminal, lines now and then elsewhere."""
    from cli.verify_progress import shown_progress

    with shown_progress() as told:
        yield told
