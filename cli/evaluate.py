"""`headwater evaluate`: what was really served, and rollouts that decide themselves."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.repository_option import RepoOption, require_repository

if TYPE_CHECKING:
    from dataflows.served.evaluator import Evaluator


def evaluate(
    repo: RepoOption = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop at what the log holds now.")
    ] = False,
) -> None:
    """Join what was served with the labels, evaluate it, and decide rollouts by it.

    It goes on where it stopped last. SIGTERM and Ctrl-C end it gracefully. Figures go into the
    model repository (`headwater models evaluation MODEL --served` shows them), decisions into its
    audit file (`headwater models audit MODEL`).
    """
    stop = threading.Event()
    with stopping(stop):
        from cli.loading import load_quietly
        from contracts.settings import EvaluatorSettings
        from dataflows.served.evaluator import Evaluator
        from dataflows.served.metrics import evaluator_endpoint

        folder = require_repository(repo)
        settings = EvaluatorSettings.for_repo(folder)
        plan = load_quietly(folder).plan
        evaluator = Evaluator(plan, settings, stop, _say)
        with evaluator_endpoint(settings.metrics_address, evaluator):
            evaluator.run(until_end=until_end)
    typer.echo(_summary_line(evaluator))


def _summary_line(evaluator: Evaluator) -> str:
    joined = [served.joined for served in evaluator.models.values()]
    records = evaluator.records
    bad = records.broken + records.unknown
    return (
        f"{sum(one.rows for one in joined):,} rows served, {sum(one.joined for one in joined):,} "
        f"with labels, {sum(s.waiting for s in evaluator.models.values()):,} waiting, "
        f"{bad:,} records of no use, {records.repeated:,} repeated"
    )


def _say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()


@contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """Have SIGTERM and SIGINT set the event, as long as the context."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
