"""`headwater score`: one row to a running scorer."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.failures import CommandError
from cli.inputs import as_type, parse_inputs
from cli.repository_option import RepoOption, repository_folder

if TYPE_CHECKING:
    from contracts.settings import ClientSettings
    from scorer.client import Explanation, Scored, ScorerCallError, ScorerClient


def score(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="key=value…", help="Entity keys and request fields.", show_default=False
        ),
    ] = None,
    repo: RepoOption = None,
    version: Annotated[str, typer.Option(help="A version; else the one that serves.")] = "",
    channel: Annotated[
        str, typer.Option(help="champion, challenger or shadow; else whichever the row goes to.")
    ] = "",
    key: Annotated[str, typer.Option(help="Key of the prediction, as labels will name it.")] = "",
    event_time: Annotated[
        str,
        typer.Option(help="Moment of prediction (ISO 8601); else now. Decides what is too old."),
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Also say how much each field moved the score.")
    ] = False,
) -> None:
    """Score one row with the scorer at HEADWATER_SCORER_ADDRESS; the answer as JSON.

    The scorer is asked first which inputs the model has, so key=123 is text where the model wants
    text and a number where it wants a number. key=null is null. key:=JSON gives a value whose type
    is yours. --explain asks a second time, for what each field did beside the model's defaults.
    """
    # gRPC's core writes lines of its own; what matters of them is in our errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from contracts.settings import ClientSettings
    from scorer.client import ExplainOptions, ScoreOptions, ScorerCallError

    given = parse_inputs(inputs or [])
    at_us = _microseconds(event_time) if event_time else None
    settings = ClientSettings.for_repo(repository_folder(repo))
    with _client(settings) as client:
        try:
            about = client.model(model, version, channel)
            types = {one.name: one.type for one in about.inputs}
            row = {name: as_type(value, types.get(name)) for name, value in given.items()}
            options = ScoreOptions(
                version=version,
                event_time_us=at_us,
                include_features=True,
                channel=channel,
                keys=[key] if key else (),
            )
            answer = client.score(model, [row], options)
            report = as_json(model, answer)
            if explain:
                # Of the version that scored: another may have come in between.
                told = ExplainOptions(version=answer.version, event_time_us=at_us)
                report["explanation"] = explanation_as_json(client.explain(model, row, told))
        except ScorerCallError as error:
            raise CommandError(_refusal(error, settings.scorer_address)) from error
    typer.echo(json.dumps(report, indent=2))


def as_json(model: str, answer: Scored) -> dict[str, Any]:
    """The answer about one row, ready for JSON."""
    report: dict[str, Any] = {
        "model": model,
        "version": answer.version,
        "score": answer.scores[0],
        "missing": answer.missing[0],
        "features": dict(zip(answer.feature_names, answer.features[0], strict=True)),
    }
    if answer.channels[0]:
        report["channel"] = answer.channels[0]
    if answer.classes:
        report["label"] = answer.labels[0]
        report["probabilities"] = dict(zip(answer.classes, answer.probabilities[0], strict=True))
    return report


def explanation_as_json(found: Explanation) -> dict[str, Any]:
    """What each field did, ready for JSON; those that did most come first."""
    ordered = sorted(found.contributions, key=lambda one: -abs(one.contribution))
    return {
        **({"label": found.label} if found.label else {}),
        "method": found.method,
        "link": found.link,
        "output": found.output,
        "baseline_output": found.baseline_output,
        "samples": found.samples,
        "contributions": {
            one.name: {
                "contribution": one.contribution,
                "standard_error": one.standard_error,
                "value": one.value,
                "baseline": one.baseline,
            }
            for one in ordered
        },
    }


def _client(settings: ClientSettings) -> ScorerClient:
    from scorer.client import ScorerClient

    try:
        return ScorerClient.from_settings(settings)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _refusal(error: ScorerCallError, address: str) -> str:
    from scorer.client import UnavailableError

    told = error.message
    if not isinstance(error, UnavailableError):
        return str(error)
    if "Failed to connect" in told:
        return f"UNAVAILABLE: no scorer answers at {address}; start one with `headwater serve`"
    if "Hostname Verification" in told:
        return (
            f"UNAVAILABLE: the certificate of {address} is for another name; set"
            " HEADWATER_SCORER_ADDRESS to a name or address that it has"
        )
    if "handshake failed" in told or "erification" in told:
        return f"UNAVAILABLE: no TLS with {address}; see HEADWATER_SCORER_CA_FILE: {told}"
    if "Socket closed" in told:
        return (
            f"UNAVAILABLE: {address} hangs up; if it wants TLS set HEADWATER_SCORER_TLS=true, "
            "if it wants a certificate HEADWATER_SCORER_CERT_FILE and HEADWATER_SCORER_KEY_FILE"
        )
    return str(error)


def _microseconds(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"--event-time {text!r}: {error}") from error
    if time.tzinfo is None:
        raise typer.BadParameter(f"--event-time {text!r} has no time zone; put a Z behind it")
    return round(time.timestamp() * 1_000_000)
