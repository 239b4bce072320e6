"""`headwater replay`: anew from the log, beside the running dataflow, in whole or in part."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cli.repository_option import RepoOption, require_repository

if TYPE_CHECKING:
    from contracts.settings import DataflowSettings
    from dataflows.definitions.repository import Repository
    from dataflows.replay.options import ReplayOptions, Result
    from dataflows.replay.replay import Replayed

_PART = "Put in place only the {}, and what else is named so; state stays as it is."


BeginOption = Annotated[
    str,
    typer.Option("--from", metavar="PLACE", help="TIME, TOPIC/PARTITION=OFFSET,... or `earliest`."),
]
EndOption = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="PLACE",
        help="TIME or TOPIC/PARTITION=OFFSET,...; only with --offline or --examples.",
    ),
]
ViewsOption = Annotated[
    str, typer.Option(metavar="NAME,...", help="Only these views, and the models that read them.")
]
ModelOption = Annotated[
    str, typer.Option(metavar="NAME,...", help="Only these models, and the views that they read.")
]
OnlineOption = Annotated[bool, typer.Option("--online", help=_PART.format("online values"))]
OfflineOption = Annotated[bool, typer.Option("--offline", help=_PART.format("offline tables"))]
ExamplesOption = Annotated[bool, typer.Option("--examples", help=_PART.format("examples"))]
LiveOption = Annotated[
    bool, typer.Option("--live", help="Go on as the dataflow once all is in place.")
]
CoresOption = Annotated[int, typer.Option(min=0, help="Use no more cores than this; 0 for all.")]
DropOption = Annotated[
    bool, typer.Option("--drop", help="Remove what an interrupted replay has built.")
]


def replay(
    repo: RepoOption = None,
    begin: BeginOption = "earliest",
    end: EndOption = "",
    views: ViewsOption = "",
    model: ModelOption = "",
    online: OnlineOption = False,
    offline: OfflineOption = False,
    examples: ExamplesOption = False,
    live: LiveOption = False,
    cores: CoresOption = 0,
    drop: DropOption = False,
) -> None:
    """Rebuild from the log beside what is live, and put it in its place.

    Without options that is everything: state, stores, examples and models. A running dataflow goes
    on until the replay is close behind it; then it is made to end, the new values are put in place
    in one step, and `headwater run` goes on from there (with --live the replay does). The scorer
    serves all the while. A replay that is interrupted changes nothing; the same command goes on
    with what it has built. TIME is event time: 2013-12-30, or 2013-12-30T18:00:00Z.
    """
    from cli.loading import load_quietly
    from cli.run import run
    from contracts.settings import DataflowSettings
    from dataflows.flow.hush import speak_apart
    from dataflows.replay.options import OptionsError, ReplayOptions, parse_place
    from dataflows.replay.selection import SelectionError

    speak_apart()
    folder = require_repository(repo)
    settings = DataflowSettings.for_repo(folder)
    chosen: list[tuple[Result, bool]] = [
        ("online", online), ("offline", offline), ("examples", examples),
    ]  # fmt: skip
    try:
        options = ReplayOptions(
            views=_names("--views", views),
            models=_names("--model", model),
            results=tuple(name for name, is_chosen in chosen if is_chosen),
            begin=parse_place("--from", begin),
            end=parse_place("--to", end),
        )
        repository = load_quietly(folder)
        if drop:
            _drop(repository, settings)
            return
        with _on_cores(cores), _ending_on_signals():
            _tell(_replayed(repository, settings, options))
    except (OptionsError, SelectionError) as error:
        raise typer.BadParameter(str(error)) from error
    if live:
        run(repo)


def _names(option: str, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if text and not names:
        raise typer.BadParameter(f"{option} {text!r} names nothing")
    return names


def _drop(repository: Repository, settings: DataflowSettings) -> None:
    from dataflows.flow.engine import default_places
    from dataflows.flow.fence import rebuilding
    from dataflows.replay.earlier import finish_earlier
    from dataflows.replay.job import drop

    live = default_places(repository, settings)
    with rebuilding(live.state):
        if finish_earlier(repository, settings):
            typer.echo("too late: it was being put in place already, and now all of it is")
            return
        was_there = drop(live)
    typer.echo("removed what the replay had built" if was_there else "there was nothing to remove")


def _replayed(
    repository: Repository, settings: DataflowSettings, options: ReplayOptions
) -> Replayed:
    from cli.run_progress import replay_line, watching
    from dataflows.changes.rate import note_rate
    from dataflows.flow.engine import default_places
    from dataflows.replay.places import fresh_places
    from dataflows.replay.replay import replay as replay_log
    from dataflows.replay.stretch import Stretch

    stretch = Stretch()
    state = fresh_places(default_places(repository, settings)).state
    with watching(lambda: replay_line(state, stretch)):
        replayed = replay_log(repository, settings, options, stretch)
    job = replayed.job
    if job.kind is job.kind.WHOLE:
        # A part is faster, and says little of the whole.
        events, seconds = replayed.events, replayed.seconds
        note_rate(job.live.state, events, seconds, repository.plan, settings.workers)
    return replayed


def _tell(replayed: Replayed) -> None:
    job, seconds = replayed.job, replayed.seconds
    rate = replayed.events / seconds if seconds else 0.0
    what = "everything"
    if job.kind is not job.kind.WHOLE:
        what = ", ".join((*job.selection.views, *job.selection.models)) or "what is gone"
    results = f" ({', '.join(job.options.results)} only)" if job.options.results else ""
    typer.echo(
        f"replayed {what}{results}: {replayed.events:,} events in {seconds:.1f} s "
        f"({rate:,.0f} events/s)"
    )
    if replayed.pause_seconds is not None:
        typer.echo(
            f"took over from the running dataflow; nothing was written for "
            f"{replayed.pause_seconds:.1f} s"
        )
    if replayed.before is None or replayed.after is None:
        return
    before, after = asdict(replayed.before), asdict(replayed.after)
    for part, digest in after.items():
        verdict = "as before" if digest == before[part] else "changed"
        typer.echo(f"{part:9} {verdict:10} {digest[:16]}")


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Wherever it stands: what it has built, and the journal of what it puts in place, stay."""
    from dataflows.replay.replay import ReplayInterruptedError

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise ReplayInterruptedError(
            "the replay was stopped. What it has built stays: the same command goes on with it, "
            "`headwater replay --drop` removes it"
        )

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _on_cores(count: int) -> Iterator[None]:
    """Keep this process, and what it starts, on so many cores; 0 for all."""
    if not count or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
