"""What make calls: ``python -m tests.services get``, ``up`` or ``down``.

``archive`` is for the tests: brokers start faster after it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.services.background import KAFKA_PORTS, REDIS_PORT, start_all, stop_all
from tests.services.kafka import archive_classes
from tests.services.provision import (
    SERVICES,
    MissingServiceError,
    install_programs,
    kafka_jars,
    redis_program,
)
from tests.services.server import ServerError


def main(arguments: list[str]) -> int:
    """Get, start or end the real services; the exit code is 1 where that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("verb", choices=["get", "up", "down", "archive"])
    parser.add_argument("--folder", type=Path, default=SERVICES, help="where their data is")
    parser.add_argument("--kafka-ports", type=int, nargs=2, default=KAFKA_PORTS)
    parser.add_argument("--redis-port", type=int, default=REDIS_PORT)
    asked = parser.parse_args(arguments)
    folder = asked.folder.resolve()
    try:
        if asked.verb == "down":
            lines = stop_all(folder)
        elif asked.verb == "archive":
            with tempfile.TemporaryDirectory() as name:
                archive_classes(Path(name))
            return 0
        else:
            install_programs()
            print(f"Kafka's jars: {kafka_jars()}\nRedis: {redis_program()}", flush=True)
            lines = iter(())
        if asked.verb == "up":
            lines = start_all(folder, tuple(asked.kafka_ports), asked.redis_port)
        for line in lines:
            print(line, flush=True)
    except (MissingServiceError, ServerError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
