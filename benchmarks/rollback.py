"""How soon a rollback is served: from ``headwater models rollback`` to the first answer by it.

A scorer with the default interval of looking, under load, whose champion is promoted and rolled
back again and again. No answer may fail, and each has the scores of the version that it names.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._environment import describe, load_average, write
from benchmarks._reach import Reach, hold
from contracts.scorer_settings import ScorerSettings
from scorer.client import AsyncScorerClient, ScoreOptions
from scorer.server import running
from tests.scorer.shop import MODEL, NOON_US, ROW, VECTOR, Shop, bias_of, linear_score

ROWS_OF_LOAD = 8
PATIENCE_SECONDS = 30.0
AT_NOON = ScoreOptions(event_time_us=NOON_US)


async def measure(shop: Shop, rounds: int) -> dict[str, Any]:
    """Milliseconds until a promotion and a rollback are served, and how many answers there were."""
    settings = ScorerSettings.for_repo(
        shop.folder, scorer_address="127.0.0.1:0", default_deadline_seconds=PATIENCE_SECONDS
    )
    took: dict[str, list[float]] = {"promote": [], "rollback": []}
    answers, stop = 0, asyncio.Event()
    expected = {version: linear_score(VECTOR, bias_of(version)) for version in ("1", "2")}
    async with running(settings, shop.folder) as address, AsyncScorerClient(address) as client:

        async def load() -> None:
            nonlocal answers
            while not stop.is_set():
                found = await client.score(MODEL, [ROW] * ROWS_OF_LOAD, AT_NOON)
                assert np.allclose(found.scores, expected[found.version], rtol=0, atol=1e-12)
                answers += 1

        async def served(name: str, version: str, begun: float) -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (await client.score(MODEL, ROW, AT_NOON)).version != version:
                    pass
            took[name].append((time.perf_counter() - begun) * 1e3)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load())
            for _ in range(rounds):
                for name, version, change in (
                    ("promote", "2", lambda: shop.repository.promote(MODEL, "2", "r", "b", 0)),
                    ("rollback", "1", lambda: shop.repository.rollback(MODEL, "r", "b", 0)),
                ):
                    begun = time.perf_counter()
                    await asyncio.to_thread(change)
                    await served(name, version, begun)
            stop.set()
    return {
        "poll_seconds": settings.model_poll_seconds,
        "rounds": rounds,
        "answers_under_load": answers,
        **{
            f"{name}_{label}_ms": float(np.quantile(each, quantile))
            for name, each in took.items()
            for label, quantile in (("p50", 0.5), ("max", 1.0))
        },
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--output", type=Path, default=Path("build/bench/rollback.json"))
    options = parser.parse_args()
    before = load_average()
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder) / "shop")
        shop.folder.mkdir()
        shop.create()
        shop.publish("2")
        shop.repository.promote(MODEL, "1", "begin", "benchmark", 0)
        figures = asyncio.run(measure(shop, options.rounds))
    environment = describe(["grpcio", "onnxruntime"])
    reaches = [Reach("rollback until it is served, ms", figures["rollback_max_ms"], most=1_000)]
    write(options.output, {"environment": environment, "load_average": before, **figures})
    for name, value in figures.items():
        print(f"{name:24} {value:,.2f}")
    hold(reaches)


if __name__ == "__main__":
    main()
