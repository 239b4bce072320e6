"""``python -m scorer REPO_DIR``: the scorer alone, as ``headwater serve`` starts it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from contracts.scorer_settings import ScorerSettings
from contracts.settings import SettingsError
from scorer.errors import ConfigurationError
from scorer.logs import configure_logs
from scorer.server import serve


def main() -> int:
    """Serve until a signal; prints ``serving on HOST:PORT`` when ready. Returns the exit code."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m scorer REPO_DIR\n")
        return 2
    repo_dir = Path(sys.argv[1])
    configure_logs()
    try:
        settings = ScorerSettings.for_repo(repo_dir)
        asyncio.run(serve(settings, repo_dir, _announce))
    except (ConfigurationError, SettingsError) as error:
        sys.stderr.write(f"scorer: {error}\n")
        return 1
    return 0


def _announce(address: str) -> None:
    sys.stdout.write(f"serving on {address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
