"""A refill of Redis as a process of its own, to be killed: address, project, file, mark."""

from __future__ import annotations

import sys
from pathlib import Path

from dataflows.stores.refill import replace_values
from tests.stores.refill_world import VIEWS, redis_at

if __name__ == "__main__":
    address, project, file, mark = sys.argv[1:]
    replace_values(Path(file), project, VIEWS[:2], redis_at(address), mark)
