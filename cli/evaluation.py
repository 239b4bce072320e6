"""`headwater models evaluation`: how good each version of a model was, by version or by segment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from cli.failures import CommandError
from cli.repository_option import RepoOption, require_repository
from cli.tables import print_table

EXAMPLE = "Example: headwater models evaluation late_arrival --segment carrier"
_SLICES = ("earlier", "recent", "all")
# What a table shows; --json has all figures.
_COLUMNS = {
    "binary": ("auc", "log_loss", "brier", "accuracy", "calibration_error"),
    "multiclass": ("accuracy", "log_loss", "macro_f1"),
    "regression": ("mae", "rmse", "r2", "bias"),
    "anomaly": ("auc", "average_precision"),
}
_BASELINES = {
    "binary": ("baseline_rate_log_loss", "baseline_last_accuracy"),
    "multiclass": ("baseline_rate_log_loss", "baseline_last_accuracy"),
    "regression": ("baseline_rate_mae", "baseline_last_mae"),
    "anomaly": ("baseline_rate_average_precision",),
}


def evaluation(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    segment: Annotated[
        str, typer.Option(help="By the values of this input instead of by version.")
    ] = "",
    version: Annotated[
        str,
        typer.Option(help="With --segment: of this version; else of the newest labels (recent)."),
    ] = "recent",
    served: Annotated[
        bool, typer.Option("--served", help="Of what was served, not of the dataflow's own rows.")
    ] = False,
    repo: RepoOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as JSON.")] = False,
) -> None:
    """Show how good a model's versions were, by the labels that came, beside trivial baselines."""
    from contracts.evaluation_file import evaluation_file, read_evaluation
    from contracts.model_repository import ModelNotFoundError, ModelRepository
    from contracts.settings import ClientSettings

    folder = require_repository(repo, unless_set="HEADWATER_MODEL_REPOSITORY")
    repository = ModelRepository(ClientSettings.for_repo(folder).model_repository)
    if model not in repository.models():
        raise ModelNotFoundError(
            f"no model {model!r} in {repository.root}; `headwater models list` names them"
        )
    file = evaluation_file(repository.root, model, "served" if served else "pipeline")
    report = read_evaluation(file)
    if report is None:
        writer = "headwater evaluate" if served else "headwater run"
        raise CommandError(
            f"model {model!r} has no evaluation yet; `{writer}` writes it, of models with a label"
        )
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    rows = list(_by_value(report, segment, version) if segment else _by_version(report))
    # Of what was served nobody knows what the baselines would have said.
    baselines = (name for name in _BASELINES[report["task"]] if _known(name, rows) or not served)
    names = (*_COLUMNS[report["task"]], *baselines)
    header = (segment or "version", "labels", *(name.replace("_", " ") for name in names))
    print_table(header, [(name, *_cells(figures, names)) for name, figures in rows])


def _by_version(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Versions, oldest first, and what they share; those without any label are left out."""
    for version, found in report["versions"].items():
        yield "none" if version == "0" else version, found["all"]
    for name in _SLICES:
        if report[name]["all"]["outcomes"] or name == "all":
            yield name, report[name]["all"]


def _by_value(
    report: Mapping[str, Any], segment: str, version: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The values of a segment in one slice, those with most labels first."""
    if segment not in report["segments"]:
        known = ", ".join(report["segments"]) or "none; name some in Model(segments=…)"
        raise CommandError(
            f"model {report['model']!r} is not evaluated by {segment!r} (segments: {known})"
        )
    found = report[version] if version in _SLICES else report["versions"].get(version)
    if found is None:
        raise CommandError(
            f"version {version!r} of {report['model']!r} has no figures of its own; those that "
            f"have: {', '.join((*report['versions'], *_SLICES))}"
        )
    values = found["segments"][segment]
    yield from sorted(values.items(), key=lambda item: (-item[1]["outcomes"], item[0]))
    yield "all", found["all"]


def _known(name: str, rows: list[tuple[str, Mapping[str, Any]]]) -> bool:
    return any(figures.get(name) is not None for _, figures in rows)


def _cells(figures: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    return f"{figures['outcomes']:,}", *(_figure(figures.get(name)) for name in names)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}" if abs(value) >= 1000 else f"{value:.4f}"
