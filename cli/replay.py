"""`headwater replay`: everything anew from the log."""

from __future__ import annotations

from dataclasses import asdict

import typer

from cli.repository_option import RepoOption, require_repository


def replay(repo: RepoOption = None) -> None:
    """Rebuild stores, examples and models from the log in an empty place, and swap them in.

    Until the swap nobody sees anything of it, and one that is interrupted leaves everything as it
    was. No process of the dataflow may be running; the scorer may. A replay is done by one process.
    """
    from cli.loading import load_quietly
    from cli.run import summary_line
    from cli.run_progress import watch
    from contracts.settings import DataflowSettings
    from dataflows.flow.engine import default_places
    from dataflows.flow.hush import speak_apart
    from dataflows.replay.replay import fresh_places, replay_all

    speak_apart()
    folder = require_repository(repo)
    settings = DataflowSettings.for_repo(folder)
    repository = load_quietly(folder)
    with watch(fresh_places(default_places(repository, settings)).state):
        replayed = replay_all(repository, settings)
    typer.echo(summary_line(replayed.summary))
    before, after = asdict(replayed.before), asdict(replayed.after)
    for part, digest in after.items():
        verdict = "as before" if digest == before[part] else "changed"
        typer.echo(f"{part:9} {verdict:10} {digest[:16]}")
