"""`headwater mlflow`: the model repository in an MLflow registry, and back."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from cli.actor import actor
from cli.failures import CommandError
from cli.repository_option import RepoOption, require_repository

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

    from cli.registry.mirror import Mirror
    from contracts.model_repository import ModelRepository

_INSTALL = "MLflow's client is not installed; install headwater[mlflow]"
# MLflow's client waits two minutes and tries seven times unless it is told otherwise.
_TIMEOUT_SECONDS = "20"
_RETRIES = "2"
_TOLD_MAX = 300
# It also tells where each run may be seen, and counts files.
_QUIET = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}

UriOption = Annotated[
    str,
    typer.Option(
        "--uri", envvar="MLFLOW_TRACKING_URI", help="MLflow's address, as http://host:5000."
    ),
]
PrefixOption = Annotated[str, typer.Option(help="Before the name of each registered model.")]

mlflow_app = typer.Typer(
    help="Mirror the model repository into an MLflow registry, and pull from it.",
    rich_markup_mode=None,
)


@mlflow_app.command("mirror", epilog="Example: headwater mlflow mirror --uri http://mlflow:5000")
def mirror(
    models: Annotated[list[str] | None, typer.Argument(help="Models; else all.")] = None,
    uri: UriOption = "",
    prefix: PrefixOption = "",
    newest: Annotated[
        int, typer.Option(min=1, max=1000, help="Newest versions of each model and kind to mirror.")
    ] = 20,
    watch: Annotated[
        float, typer.Option(min=0, help="Go on, with so many seconds in between; 0 is once.")
    ] = 0.0,
    repo: RepoOption = None,
) -> None:
    """Bring MLflow up to date: versions with figures and lineage, channels as aliases.

    What MLflow has already is left alone, so it can be run again at any time.
    """
    from cli.registry.mirror import Mirror

    repository = _repository(repo)
    client = _client(uri)
    mirrored = Mirror(client, repository, prefix)
    _once(mirrored, models or repository.models(), newest)
    while watch:
        time.sleep(watch)
        try:
            _once(mirrored, models or repository.models(), newest)
        except CommandError as error:
            # MLflow may be away for a while; the repository does not need it.
            typer.echo(f"{error}; trying again in {watch:g} s", err=True)


@mlflow_app.command("pull", epilog="Example: headwater mlflow pull fraud @champion --promote")
def pull(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[str, typer.Argument(help="Our number, or an alias as in @champion.")],
    uri: UriOption = "",
    prefix: PrefixOption = "",
    promote: Annotated[bool, typer.Option("--promote", help="Make it the champion too.")] = False,
    repo: RepoOption = None,
) -> None:
    """Take a version out of MLflow into the model repository, checked as any other."""
    from cli.registry.pull import find
    from cli.registry.pull import pull as take

    repository = _repository(repo)
    client = _client(uri)
    # Not before it: who lacks MLflow is told there.
    from mlflow.exceptions import MlflowException

    try:
        manifest = take(client, find(client, prefix + model, version), repository)
    except MlflowException as error:
        raise CommandError(_refused(error)) from error
    if manifest.model != model:
        raise CommandError(f"that version is of model {manifest.model!r}, not {model!r}")
    typer.echo(f"{model}: version {manifest.version} is in {repository.root}")
    if promote:
        reason = f"pulled from MLflow as {version}"
        repository.promote(model, manifest.version, reason, actor(), time.time_ns() // 1000)
        typer.echo(f"{model}: version {manifest.version} is champion")


def _once(mirrored: Mirror, models: list[str], newest: int) -> None:
    from mlflow.exceptions import MlflowException

    for model in models:
        try:
            done = mirrored.mirror(model, newest)
        except MlflowException as error:
            raise CommandError(_refused(error)) from error
        typer.echo(
            f"{model}: {done.versions} versions, {done.aliases} aliases and {done.metrics} "
            "metrics written"
        )


def _refused(error: Exception) -> str:
    """One line of what MLflow's client says, which is long where there is no answer."""
    cause = error.__context__
    # Errors of requests are those of the system, and know what was asked for.
    asked = urlsplit(str(getattr(getattr(cause, "request", None), "url", None) or ""))
    if isinstance(cause, OSError) and asked.netloc:
        return (
            f"MLflow at {asked.scheme}://{asked.netloc} does not answer "
            f"({type(cause).__name__}): is it running there?"
        )
    lines = str(error).splitlines() or [type(error).__name__]
    return f"MLflow: {lines[0][:_TOLD_MAX]}"


def _client(uri: str) -> MlflowClient:
    if not uri:
        raise CommandError("no MLflow named; give --uri, or set MLFLOW_TRACKING_URI")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", _TIMEOUT_SECONDS)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _RETRIES)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise CommandError(_INSTALL) from error
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _repository(repo: Path | None) -> ModelRepository:
    from contracts.model_repository import ModelRepository
    from contracts.settings import ClientSettings

    folder = require_repository(repo, unless_set="HEADWATER_MODEL_REPOSITORY")
    settings = ClientSettings.for_repo(folder)
    return ModelRepository.of(settings, settings.model_repository)
