"""`headwater serve`: the scorer."""

from __future__ import annotations

import os
import sys

import typer

from cli.repository_option import RepoOption, require_repository


def serve(repo: RepoOption = None) -> None:
    """Serve scores over gRPC at HEADWATER_SCORER_ADDRESS.

    Says "serving on HOST:PORT" when calls are answered. New model versions are picked up while it
    runs. SIGTERM and Ctrl-C end it gracefully: calls under way are finished. With
    HEADWATER_SCORER_PROCESSES above 1 that many processes share the port.
    """
    # gRPC's core writes lines of its own; what matters of them is in our errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from contracts.scorer_settings import ScorerSettings
    from scorer.logs import configure_logs
    from scorer.process import serve_alone
    from scorer.processes import serve_together

    folder = require_repository(repo)
    configure_logs()
    settings = ScorerSettings.for_repo(folder)
    serve_scores = serve_alone if settings.scorer_processes == 1 else serve_together
    serve_scores(settings, folder, _announce)


def _announce(address: str) -> None:
    typer.echo(f"serving on {address}")
    sys.stdout.flush()
