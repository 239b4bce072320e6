"""`headwater train`: a version of a model from all its examples at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cli.actor import actor
from cli.failures import CommandError
from cli.moments import TIME_FORMS, FromOption, micros, shown
from cli.repository_option import RepoOption, require_repository
from cli.tables import print_table

if TYPE_CHECKING:
    from contracts.manifest import Manifest
    from contracts.model_channels import Channel
    from contracts.model_repository import ModelRepository
    from contracts.plan import ModelPlan
    from contracts.settings import DataflowSettings
    from dataflows.datasets.for_training import Source
    from dataflows.training.examples import Examples, Period
    from dataflows.training.train import Trained, Wishes

_FIELDS_SHOWN = 8


class LearnerName(StrEnum):
    """The learners of ``dataflows.training.learners``, known without importing it."""

    LIGHTGBM = "lightgbm"
    SKLEARN_HIST = "sklearn-hist"
    SKLEARN_LINEAR = "sklearn-linear"


class ChannelName(StrEnum):
    """Where a new version goes."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    SHADOW = "shadow"
    NONE = "none"


ModelArgument = Annotated[str, typer.Argument(help="Name of the model.")]
LearnerOption = Annotated[LearnerName, typer.Option(help="What learns.")]
UntilOption = Annotated[
    datetime | None,
    typer.Option(
        "--until", formats=TIME_FORMS, metavar="TIME", help="Predictions before this moment, UTC."
    ),
]
TestFromOption = Annotated[
    datetime | None,
    typer.Option(
        formats=TIME_FORMS,
        metavar="TIME",
        help="From here on the model is only measured, UTC; else the last fifth.",
    ),
]
TrialsOption = Annotated[
    int, typer.Option(min=1, max=10_000, help="How many sets of parameters are tried.")
]
SecondsOption = Annotated[
    float, typer.Option(min=0, max=604_800, help="After so long no more are tried.")
]
SeedOption = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of all that is random.")]
ThreadsOption = Annotated[int, typer.Option(min=1, max=256, help="That the learner may use.")]
SegmentsOption = Annotated[
    str, typer.Option(help="Inputs to measure by, with commas; else the model's own.")
]
DatasetOption = Annotated[
    str, typer.Option(help="Data set to learn from; else the examples of the dataflow.")
]
ChannelOption = Annotated[
    ChannelName | None,
    typer.Option(
        help="Which channel gets the version.",
        show_default="challenger; none for a model with a rollout, whose evaluator takes it",
    ),
]


def train(
    model: ModelArgument,
    repo: RepoOption = None,
    learner: LearnerOption = LearnerName.LIGHTGBM,
    from_time: FromOption = None,
    until_time: UntilOption = None,
    test_from: TestFromOption = None,
    trials: TrialsOption = 20,
    seconds_max: SecondsOption = 300.0,
    seed: SeedOption = 0,
    threads: ThreadsOption = 1,
    segments: SegmentsOption = "",
    channel: ChannelOption = None,
    dataset: DatasetOption = "",
) -> None:
    """Train a version of a model on the dataflow's examples, or on a data set, and publish it.

    Vectors are those that were scored, as they were at that moment. Parameters are chosen by later
    rows than those learned from, and the model is measured on rows that are later still. Times are
    those of the predictions. Needs `pip install 'headwater[train]'`.
    """
    from contracts.model_repository import ModelRepository
    from contracts.plan_file import plan_path, read_plan
    from contracts.settings import DataflowSettings
    from dataflows.git_commit import git_commit
    from dataflows.training.examples import Period
    from dataflows.training.learners import learner as learner_named
    from dataflows.training.publish import Publication, publish
    from dataflows.training.search import Budget
    from dataflows.training.split import Shares
    from dataflows.training.train import Wishes, check_trainable
    from dataflows.training.train import train as train_on

    folder = require_repository(repo)
    settings = DataflowSettings.for_repo(folder)
    plan = _plan(model, read_plan(plan_path(folder)).plan.models)
    check_trainable(plan)
    chosen = learner_named(learner.value)
    columns = tuple(filter(None, segments.split(","))) or plan.segments
    period = Period(micros(from_time), micros(until_time))
    examples, source = _examples(settings, plan, dataset, period, columns)
    if lacking := set(filter(None, segments.split(","))) - examples.segments.keys():
        raise CommandError(
            f"outcomes have no segment {min(lacking)!r}; add it to `segments` of the model and "
            "replay, or leave it out of --segments"
        )
    shares = Shares(test_from_us=micros(test_from))
    wishes = Wishes(shares, Budget(trials, seconds_max), seed, threads)
    with _progress(wishes) as on_trial:
        trained = train_on(plan, examples, chosen, wishes, time.monotonic, on_trial)
    if channel is None:
        # A challenger that a person has set would be no business of the evaluator's.
        channel = ChannelName.CHALLENGER if plan.rollout is None else ChannelName.NONE
    publication = Publication(
        actor=actor(),
        git_commit=git_commit(folder),
        channel=None if channel is ChannelName.NONE else cast("Channel", channel.value),
        at_us=time.time_ns() // 1000,
        examples_from=source.lineage,
        offsets=source.offsets,
    )
    repository = ModelRepository.of(settings, settings.model_repository)
    manifest = publish(repository, plan, trained, publication)
    _print(manifest, trained)
    _print_channel(repository, plan, manifest.version, channel)


def _examples(
    settings: DataflowSettings,
    plan: ModelPlan,
    dataset: str,
    period: Period,
    segments: tuple[str, ...],
) -> tuple[Examples, Source]:
    """What is learned from, and what it is of: a data set if one is named, else the dataflow's."""
    from dataflows.datasets.catalogue import Catalogue
    from dataflows.datasets.for_training import source_of_dataflow, source_of_dataset
    from dataflows.training.examples import read_examples

    if not dataset:
        examples = read_examples(plan, settings.examples_dir / plan.name, period, segments)
        return examples, source_of_dataflow(settings.state_dir)
    catalogue = Catalogue(settings.datasets_dir)
    source = source_of_dataset(catalogue, dataset, plan)
    return read_examples(plan, catalogue.folder(dataset), period, segments), source


def _print_channel(
    repository: ModelRepository, plan: ModelPlan, version: str, channel: ChannelName
) -> None:
    """Where the version went, and what is to be done before it serves."""
    went = channel.value if channel is not ChannelName.NONE else "in no channel"
    if channel is ChannelName.NONE and plan.rollout is not None:
        went += " yet: `headwater evaluate` makes it the challenger"
    elif channel is ChannelName.CHALLENGER and not repository.channels(plan.name).challenger_share:
        command = f"headwater models challenger {plan.name} {version} --share 0.1"
        went += f" and has no share of the requests yet: `{command}` gives it one"
    typer.echo(f"{plan.name}: version {version} is {went}")


def _plan(model: str, models: tuple[ModelPlan, ...]) -> ModelPlan:
    for plan in models:
        if plan.name == model:
            return plan
    known = ", ".join(plan.name for plan in models) or "none"
    raise CommandError(f"there is no model {model!r}; the repository has: {known}")


@contextmanager
def _progress(wishes: Wishes) -> Iterator[Callable[[int, float], None]]:
    """A bar over the trials on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("trying parameters", total=wishes.budget.trials)

        def on_trial(done: int, loss: float) -> None:
            progress.update(task, completed=done, description=f"best validation loss {loss:.5f}")

        yield on_trial


def _print(manifest: Manifest, trained: Trained) -> None:
    """What a person wants to know before the version is trusted."""
    rows, found = trained.rows, trained.found
    facts = [
        ("learner", manifest.learner),
        ("parameters", f"best of {found.trials}, {found.pruned} of them given up early"),
        ("learned from", f"{rows['fit']:,} examples until {shown(trained.split.test_from_us)}"),
        ("measured on", f"{rows['test']:,} later examples"),
        *((f"metric {name}", f"{value:.6g}") for name, value in sorted(trained.metrics.items())),
        ("ONNX", f"{len(trained.onnx):,} bytes, {trained.parity.max_abs_diff:.1e} apart at most"),
    ]
    print_table(("fact", "value"), facts)
    first = list(trained.importance.items())[:_FIELDS_SHOWN]
    print_table(("field", "share"), [(name, f"{share:.3f}") for name, share in first])
