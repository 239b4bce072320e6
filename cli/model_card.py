"""`headwater models card`: a version's model card, with the newest figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.failures import CommandError
from cli.repository_option import RepoOption, require_repository

EXAMPLE = "Example: headwater models card late_arrival b1 --output cards"
_PLOT = "calibration.svg"


def card(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[str, typer.Argument(help="A version; else the champion.")] = "",
    output: Annotated[
        Path | None,
        typer.Option(help="A folder for MODEL-VERSION.md and its plot; else it is printed."),
    ] = None,
    repo: RepoOption = None,
) -> None:
    """Show a version's model card (Markdown): use, figures, segments, calibration, lineage.

    Each version's folder has the card as it was when the version was published; this one has what
    was measured since.
    """
    from contracts.calibration_plot import calibration_svg
    from contracts.evaluation_file import evaluation_file, read_evaluation
    from contracts.model_card import calibration_of, render_card
    from contracts.model_repository import ModelRepository
    from contracts.settings import ClientSettings

    folder = require_repository(repo, unless_set="HEADWATER_MODEL_REPOSITORY")
    settings = ClientSettings.for_repo(folder)
    repository = ModelRepository.of(settings, settings.model_repository)
    wanted = version or repository.channels(model).champion
    if wanted is None:
        raise CommandError(f"model {model!r} has no champion yet; name one of its versions")
    manifest, _ = repository.load(model, wanted)
    pipeline = read_evaluation(evaluation_file(repository.root, model, "pipeline"))
    served = read_evaluation(evaluation_file(repository.root, model, "served"))
    if output is None:
        typer.echo(render_card(manifest, pipeline, served), nl=False)
        return
    bins = calibration_of(manifest, pipeline, served)
    name = f"{model}-{wanted}"
    plot = f"{name}-{_PLOT}" if bins else ""
    try:
        output.mkdir(parents=True, exist_ok=True)
        if bins:
            (output / plot).write_text(calibration_svg(bins), encoding="utf-8")
        text = render_card(manifest, pipeline, served, plot)
        (output / f"{name}.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write to {output}: {error.strerror}") from error
    typer.echo(f"{output / name}.md")
