"""`headwater models promote|rollback|challenger|shadow|audit`: which version serves, and why."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli.actor import actor
from cli.repository_option import RepoOption, require_repository
from cli.tables import print_table

if TYPE_CHECKING:
    from pathlib import Path

    from contracts.model_channels import AuditEntry
    from contracts.model_repository import ModelRepository

_NOBODY = "none"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ModelArgument = Annotated[str, typer.Argument(help="Name of the model.")]
ReasonOption = Annotated[str, typer.Option(help="Why; goes into the audit file.")]


def add_verbs(app: typer.Typer) -> None:
    """Give `headwater models` its verbs about channels."""
    for name, verb, example in (
        ("promote", promote, "headwater models promote late_arrival 12 --reason 'better AUC'"),
        ("rollback", rollback, "headwater models rollback late_arrival --reason 'AUC fell'"),
        ("challenger", challenger, "headwater models challenger late_arrival 13 --share 0.1"),
        ("shadow", shadow, "headwater models shadow late_arrival 13"),
        ("audit", audit, "headwater models audit late_arrival"),
    ):
        app.command(name, epilog=f"Example: {example}")(verb)


def promote(
    model: ModelArgument,
    version: Annotated[str, typer.Argument(help="The version that is to serve.")],
    reason: ReasonOption = "by hand",
    repo: RepoOption = None,
) -> None:
    """Make a version the champion: running scorers swap it in."""
    repository = _repository(repo)
    # A broken version is refused here, where somebody reads it.
    repository.load(model, version)
    repository.promote(model, version, reason, actor(), _now_us())
    typer.echo(f"{model}: version {version} is champion")


def rollback(
    model: ModelArgument, reason: ReasonOption = "by hand", repo: RepoOption = None
) -> None:
    """Make the champion before the present one champion again; a challenger loses its share."""
    version = _repository(repo).rollback(model, reason, actor(), _now_us())
    typer.echo(f"{model}: version {version} is champion again")


def challenger(
    model: ModelArgument,
    version: Annotated[str, typer.Argument(help="The version to try; none for no challenger.")],
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of the requests, 0 to 1; 0 only compares.")
    ] = 0.0,
    reason: ReasonOption = "by hand",
    repo: RepoOption = None,
) -> None:
    """Have a version answer a share of the requests; who is among them stays among them.

    A rollout that is under way is over then: what is done by hand stands.
    """
    repository = _repository(repo)
    if version == _NOBODY:
        repository.set_channel(model, "challenger", None, reason, actor(), _now_us())
        typer.echo(f"{model}: no challenger")
        return
    repository.load(model, version)
    salt = f"{model}/{version}"
    repository.set_challenger(model, version, share, salt, reason, actor(), _now_us())
    typer.echo(f"{model}: version {version} is challenger with a share of {share:g}")


def shadow(
    model: ModelArgument,
    version: Annotated[str, typer.Argument(help="The version; none for no shadow.")],
    reason: ReasonOption = "by hand",
    repo: RepoOption = None,
) -> None:
    """Have a version score beside the others, for the prediction log only."""
    repository = _repository(repo)
    wanted = None if version == _NOBODY else version
    if wanted is not None:
        repository.load(model, wanted)
    repository.set_channel(model, "shadow", wanted, reason, actor(), _now_us())
    typer.echo(f"{model}: " + (f"version {wanted} is shadow" if wanted else "no shadow"))


def audit(
    model: ModelArgument,
    repo: RepoOption = None,
    last: Annotated[int, typer.Option(min=1, help="So many of the newest entries.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show who changed which channel when, why, and on what figures."""
    entries = _repository(repo).audit(model)[-last:]
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    header = ("when", "who", "what", "why", "figures")
    print_table(header, [_row(entry) for entry in entries])


def _row(entry: AuditEntry) -> tuple[str, ...]:
    when = _EPOCH + timedelta(microseconds=entry.at_us)
    what = f"{entry.action} {entry.channel} {entry.previous or '–'} → {entry.version or '–'}"
    if entry.share is not None:
        what += f", share {entry.share:g}"
    return f"{when:%Y-%m-%d %H:%M:%S}", entry.actor, what, entry.reason, _figures(entry.figures)


def _figures(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items()) or "–"


def _repository(repo: Path | None) -> ModelRepository:
    from contracts.model_repository import ModelRepository
    from contracts.settings import ClientSettings

    folder = require_repository(repo, unless_set="HEADWATER_MODEL_REPOSITORY")
    settings = ClientSettings.for_repo(folder)
    return ModelRepository.of(settings, settings.model_repository)


def _now_us() -> int:
    return time.time_ns() // 1000
