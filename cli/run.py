"""`headwater run`: the dataflow, with its progress on the terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cli.repository_option import RepoOption, require_repository

if TYPE_CHECKING:
    from dataflows.flow.engine import Summary


def run(
    repo: RepoOption = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop at what the log holds now, all published.")
    ] = False,
) -> None:
    """Run the dataflow: features, examples and models out of the log.

    It goes on where it stopped last. SIGTERM and Ctrl-C end it gracefully: the epoch under way is
    finished and state and stores are saved.

    With HEADWATER_ADDRESSES it is one of several processes, number HEADWATER_PROCESS, which begin
    and end together: a signal to one ends all, and when one fails the others end with exit 1.
    """
    with _stopping_at_once():
        from cli.loading import load_quietly
        from cli.run_progress import watch
        from contracts.settings import DataflowSettings
        from dataflows.changes.rate import note_rate
        from dataflows.flow.drift_metrics import DriftCollector
        from dataflows.flow.engine import default_places, run_flow
        from dataflows.flow.evaluation_metrics import EvaluationCollector
        from dataflows.flow.hush import speak_apart
        from dataflows.flow.metrics import metrics_endpoint

        speak_apart()
        folder = require_repository(repo)
        settings = DataflowSettings.for_repo(folder)
        repository = load_quietly(folder)
        places = default_places(repository, settings)
        tell_unfinished_erasure(settings.state_dir)
        address, number = settings.metrics_address, settings.process
        names = [model.name for model in repository.plan.models]
        more = [EvaluationCollector(places.models, names), DriftCollector(places.models, names)]
        with metrics_endpoint(address, places.state, number, more), watch(places.state):
            summary = run_flow(repository, settings, places, until_end=until_end)
    for reason in summary.tally.refused:
        sys.stderr.write(f"not published: {reason}\n")
    if huge := summary.tally.huge:
        sys.stderr.write(f"not learned: {huge:,} examples with numbers beyond 1e150 or -1e150\n")
    typer.echo(summary_line(summary))
    if until_end and not settings.addresses and not summary.was_stopped:
        events, seconds = summary.tally.events, summary.seconds
        note_rate(places.state, events, seconds, repository.plan, settings.workers)


def tell_unfinished_erasure(state: Path) -> None:
    """Say so on stderr: only its caller knows who is to be forgotten, and can finish it."""
    from dataflows.erasure.tombstones import read_tombstones

    found = read_tombstones(state)
    if found is not None and not all(one.is_done for one in found.tombstones):
        sys.stderr.write(
            "note: an erasure was interrupted; start `headwater forget` again with its words\n"
        )


def summary_line(summary: Summary) -> str:
    """What a run did, in one line."""
    tally, seconds = summary.tally, summary.seconds
    rate = tally.events / seconds if seconds else 0.0
    return (
        f"{tally.events:,} events in {seconds:.1f} s ({rate:,.0f} events/s), {tally.bad:,} bad, "
        f"{tally.late:,} late, {tally.versions:,} model versions published"
    )


class _StoppedError(BaseException):
    """A signal came. No SystemExit, which definitions.py may raise and must not."""


@contextmanager
def _stopping_at_once() -> Iterator[None]:
    """Until the flow takes the signals over there is nothing to save: just leave, with exit 0."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise _StoppedError()

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, leave) for number in numbers]
    try:
        yield
    except _StoppedError:
        raise SystemExit(0) from None
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
