"""``python -m scorer REPO_DIR``: the scorer alone, as ``headwater serve`` starts it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from contracts.scorer_settings import ScorerSettings
from contracts.settings import SettingsError
from scorer.errors import ConfigurationError
from scorer.logs import configure_logs
from scorer.process import serve_alone, serve_sharing_port
from scorer.processes import ProcessDiedError, serve_together

_SHARING = "--sharing-port"


def main() -> int:
    """Serve until a signal; prints ``serving on HOST:PORT`` when ready. Returns the exit code."""
    *options, repo = sys.argv[1:] or [""]
    if not repo or options not in ([], [_SHARING]):
        sys.stderr.write("usage: python -m scorer REPO_DIR\n")
        return 2
    repo_dir = Path(repo)
    configure_logs()
    try:
        settings = ScorerSettings.for_repo(repo_dir)
        serve_in(settings, options)(settings, repo_dir, _announce)
    except (ConfigurationError, SettingsError, ProcessDiedError) as error:
        sys.stderr.write(f"scorer: {error}\n")
        return 1
    return 0


def serve_in(
    settings: ScorerSettings, options: list[str]
) -> Callable[[ScorerSettings, Path, Callable[[str], None]], None]:
    """What serves: one of several processes, one alone, or what starts several."""
    if options:
        return serve_sharing_port
    return serve_alone if settings.scorer_processes == 1 else serve_together


def _announce(address: str) -> None:
    sys.stdout.write(f"serving on {address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
