"""Whether an evaluator runs: ``python -m dataflows.served.healthcheck REPO`` exits with 0 or 1."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from contracts.settings import EvaluatorSettings
from dataflows.served.state import evaluator_folder, is_evaluated


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 if a process holds the evaluator's state of the repository, 2 for no folder."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m dataflows.served.healthcheck REPO\n")
        return 2
    settings = EvaluatorSettings.for_repo(Path(arguments[0]))
    return 0 if is_evaluated(evaluator_folder(settings.state_dir)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
