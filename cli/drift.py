"""`headwater models drift`: how far features, scores and errors are from their reference."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli.failures import CommandError
from cli.repository_option import RepoOption, require_repository
from cli.tables import print_table

if TYPE_CHECKING:
    from contracts.drift_record import DriftAlert, DriftFigure, DriftReport

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def drift(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    repo: RepoOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what has drifted, where everything else stands, and the latest alerts.

    A dataflow that runs writes this at the end of each epoch. All alerts are in the topic
    `headwater.drift`.
    """
    from contracts.drift_record import read_report
    from contracts.model_repository import ModelRepository
    from contracts.settings import ClientSettings

    folder = require_repository(repo, unless_set="HEADWATER_MODEL_REPOSITORY")
    root = ClientSettings.for_repo(folder).model_repository
    if model not in ModelRepository(root).models():
        raise CommandError(f"no model {model!r} in {root}; `headwater models list` names them")
    report = read_report(root, model)
    if report is None:
        raise CommandError(
            f"model {model!r} has no drift report yet; `headwater run` writes it, unless its "
            "`drift` is None"
        )
    if as_json:
        import msgspec

        typer.echo(json.dumps(msgspec.to_builtins(report), indent=2))
        return
    _show(report)


def _show(report: DriftReport) -> None:
    lines = [("predictions", _watched(report.rows, report.rows_until_watched))]
    if any(one.kind == "error" for one in report.figures):
        lines.append(("labels", _watched(report.labels, report.labels_until_watched)))
    print_table(("what", "how"), [*lines, ("looks", f"{report.looks:,}")])
    # What has drifted comes first.
    figures = sorted(report.figures, key=lambda one: (one.since_us is None, one.kind, one.feature))
    header = ("kind", "feature", "value", "threshold", "p-value", "drift since")
    print_table(header, [_row(one) for one in figures])
    if report.alerts:
        header = ("alert", "kind", "feature", "value", "threshold", "event time")
        print_table(header, [_alert(one) for one in report.alerts])


def _watched(count: int, missing: int) -> str:
    return f"{count:,} ({missing:,} more until all is watched)" if missing else f"{count:,}"


def _row(figure: DriftFigure) -> tuple[str, ...]:
    return (
        figure.kind,
        figure.feature or "-",
        "-" if figure.value is None else f"{figure.value:.4f}",
        f"{figure.threshold:.4f}",
        "-" if figure.p_value is None else f"{figure.p_value:.1e}",
        "-" if figure.since_us is None else _time(figure.since_us),
    )


def _alert(alert: DriftAlert) -> tuple[str, ...]:
    state = f"{alert.state} ({alert.why})" if alert.why else alert.state
    return (
        state,
        alert.kind,
        alert.feature or "-",
        f"{alert.value:.4f}",
        f"{alert.threshold:.4f}",
        _time(alert.window_until_us),
    )


def _time(time_us: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%d %H:%M:%S}"
