"""`headwater models`: what is in the model repository, and which version serves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.channels import add_verbs
from cli.failures import CommandError
from cli.repository_option import RepoOption, require_repository
from cli.tables import print_table

if TYPE_CHECKING:
    from pathlib import Path

    from contracts.feature_schema import VectorField
    from contracts.manifest import Manifest
    from contracts.model_repository import ModelRepository

# What the list shows of the metrics; `models show` has all of them.
_HEADLINES = ("auc", "log_loss", "accuracy", "mae", "rmse", "r2")
_TEXT_MAX = 160  # --json and the model card have all of it
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ModelArgument = Annotated[str, typer.Argument(help="Name of the model.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]

models_app = typer.Typer(
    help="The model repository: list, show, promote, roll back.", rich_markup_mode=None
)
add_verbs(models_app)


@models_app.command("list", epilog="Example: headwater models list")
def list_models(repo: RepoOption = None, as_json: JsonOption = False) -> None:
    """List all models: how many versions, which one serves, what it learned and how well."""
    repository = _repository(repo)
    rows = [_summary(repository, model) for model in repository.models()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif rows:
        header = ("model", "versions", "champion", "challenger", "shadow", "examples", "metrics")
        print_table(header, [_line(row) for row in rows])
    else:
        typer.echo(f"no models in {repository.root} yet; `headwater run` publishes them")


@models_app.command("show", epilog="Example: headwater models show late_arrival 12")
def show(
    model: ModelArgument,
    version: Annotated[str, typer.Argument(help="A version; else the champion.")] = "",
    repo: RepoOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is known about a version: its inputs, what it learned, where it came from."""
    repository = _repository(repo)
    wanted = version or repository.channels(model).champion
    if wanted is None:
        raise CommandError(f"model {model!r} has no champion yet; name one of its versions")
    manifest, _ = repository.load(model, wanted)
    if as_json:
        typer.echo(manifest.to_json(), nl=False)
        return
    print_table(("field", "value"), _facts(manifest))
    fields = [(f.name, f.kind, f.dtype, _default(f)) for f in manifest.schema.fields]
    print_table(("vector", "kind", "type", "default"), fields)


def _repository(repo: Path | None) -> ModelRepository:
    from contracts.model_repository import ModelRepository
    from contracts.settings import ClientSettings

    folder = require_repository(repo, unless_set="HEADWATER_MODEL_REPOSITORY")
    settings = ClientSettings.for_repo(folder)
    return ModelRepository.of(settings, settings.model_repository)


def _summary(repository: ModelRepository, model: str) -> dict[str, Any]:
    """One model for the list; a broken one does not hide the others."""
    from contracts.model_repository import ModelRepositoryError

    row: dict[str, Any] = {
        "model": model,
        "versions": len(repository.versions(model)),
        "champion": None,
        "challenger": None,
        "challenger_share": 0.0,
        "shadow": None,
        "examples": None,
        "metrics": {},
        "error": None,
    }
    try:
        channels = repository.channels(model)
        row |= {
            "champion": channels.champion,
            "challenger": channels.challenger,
            "challenger_share": channels.challenger_share,
            "shadow": channels.shadow,
        }
        if row["champion"] is not None:
            manifest, _ = repository.load(model, row["champion"])
            row |= {"examples": manifest.examples, "metrics": dict(manifest.metrics)}
    except ModelRepositoryError as error:
        row["error"] = str(error)
    return row


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    challenger = _shown(row["challenger"])
    if row["challenger"] is not None:
        challenger += f" ({row['challenger_share']:.0%})"
    versions, champion, shadow, examples = (
        _shown(row[name]) for name in ("versions", "champion", "shadow", "examples")
    )
    return row["model"], versions, champion, challenger, shadow, examples, _note(row)


def _note(row: Mapping[str, Any]) -> str:
    return row["error"] or _headlines(row["metrics"])


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    parity = manifest.parity
    facts = [
        ("model", manifest.model),
        ("version", manifest.version),
        ("learner", " ".join(manifest.learner.split())),
        ("examples", _shown(manifest.examples)),
        ("trained from", _time(manifest.trained_from_us)),
        ("trained until", _time(manifest.trained_until_us)),
        *((f"metric {name}", _figure(value)) for name, value in sorted(manifest.metrics.items())),
        ("parity", f"{parity['max_abs_diff']:.1e} at most, {parity['rows']:,} rows"),
        ("task", manifest.task),
        *((f"class {place}", label) for place, label in enumerate(manifest.classes)),
        ("parent", _shown(manifest.parent)),
        ("created by", manifest.created_by),
        ("git commit", _shown(manifest.git_commit or None)),
        ("fingerprint", manifest.fingerprint),
        ("sha256", manifest.sha256),
    ]
    facts += [(f"lineage {name}", _short(text)) for name, text in manifest.lineage.items()]
    return facts + [(f"offset {name}", _shown(at)) for name, at in sorted(manifest.offsets.items())]


def _headlines(metrics: Mapping[str, float]) -> str:
    names = [name for name in _HEADLINES if name in metrics] or sorted(metrics)
    return ", ".join(f"{name} {_figure(metrics[name])}" for name in names) or "–"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4f}"


def _default(one: VectorField) -> str:
    return f"code {one.default:.0f}" if one.dtype == "string" else str(one.default)


def _short(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _time(time_us: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%d %H:%M:%S}"
