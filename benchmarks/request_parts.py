"""Where the CPU time of a request goes, part by part, without gRPC: ``make bench-request_parts``.

The world is that of the scorer's benchmark: 3 entity keys × 20 features in a real Redis, 5 request
values, a logistic regression. Each part runs alone on the loop that the scorer has, with the
collector of garbage set as the scorer sets it; the scores are compared with numpy's first.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import uvloop

from benchmarks._environment import describe, load_average, write
from benchmarks._scorer_world import MODEL, World, make_world, many_rows, online_store
from benchmarks._table import load_line, show
from contracts.model_repository import ModelRepository
from scorer.messages import Messages, rows_of
from scorer.model import LoadedModel
from scorer.online_store import open_online_store
from scorer.prediction_log import records_of
from scorer.process import settle_memory
from scorer.scored import Scored, ScoredRequest, whole
from scorer.v1 import scorer_pb2
from scorer.vector import VectorFiller
from scorer.vector_plan import check_rows

ROWS = (1, 100)
_SECONDS = 0.3
_ROUNDS = 3
_TOLERANCE = 1e-12


async def cpu_us(work: Callable[[], Awaitable[Any]]) -> float:
    """CPU microseconds that one call takes, the least of some rounds."""
    await work()
    found = []
    for _ in range(_ROUNDS):
        count, end = 0, time.perf_counter() + _SECONDS
        started = time.process_time()
        while time.perf_counter() < end:
            await work()
            count += 1
        found.append((time.process_time() - started) / count * 1e6)
    return min(found)


def soon(work: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    """A function as something to be awaited."""

    async def call() -> Any:
        return work()

    return call


async def parts(world: World, rows: int) -> dict[str, float]:
    """Part -> CPU microseconds of a request of so many rows."""
    model = LoadedModel(*ModelRepository(world.folder / "data" / "models").load(MODEL, "1"))
    reader = open_online_store(world.folder)
    (message, *_) = many_rows(world.requests[:rows], rows)
    request = scorer_pb2.ScoreRequest.FromString(message)
    inputs = await rows_of(request.rows, model.plan)
    checked = check_rows(model.plan, 0, inputs)
    wanted = list(dict.fromkeys(one for asked in checked.wanted for one in asked if one))
    found = dict(zip(wanted, await reader.read_cells(wanted), strict=True))
    filler, messages = VectorFiller(), Messages()
    at_us = [time.time_ns() // 1000] * rows

    def fill() -> Any:
        return filler.fill(model.plan, checked.given, checked.wanted, found, at_us, checked.texts)

    vectors = fill()
    scores = model.run(vectors.values)
    # Version 1 is the second of the two estimators.
    assert np.abs(scores - world.expected[1, :rows]).max() <= _TOLERANCE, "wrong scores"
    scored = Scored(model, scores.tolist(), vectors, at_us[0])
    answered = ScoredRequest(
        "id", model.manifest, inputs, scored.scores, vectors, at_us[0], at_us[0], 0.001
    )
    measured = {
        "parse the message": soon(lambda: scorer_pb2.ScoreRequest.FromString(message)),
        "its values": lambda: rows_of(request.rows, model.plan),
        "checks, entity keys": soon(lambda: check_rows(model.plan, 0, inputs)),
        "read from Redis": lambda: reader.read_cells(wanted),
        "vectors": soon(fill),
        "ONNX Runtime": soon(lambda: model.run(vectors.values)),
        "response": lambda: messages.response(request, whole(scored)),
        "record for the prediction log": soon(lambda: list(records_of(answered))),
    }
    try:
        return {name: await cpu_us(work) for name, work in measured.items()}
    finally:
        await reader.close()


def main() -> None:
    """Make the world, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/bench/request_parts.json"))
    options = parser.parse_args()
    load = load_average()
    with (
        TemporaryDirectory(prefix="headwater-bench-") as name,
        online_store("redis", Path(name)) as store,
    ):
        world = make_world(Path(name), store)
        settle_memory()
        found = {rows: uvloop.run(parts(world, rows)) for rows in ROWS}
    figures = {str(rows): {**one, "sum": sum(one.values())} for rows, one in found.items()}
    environment = describe(["grpcio", "protobuf", "onnxruntime", "numpy", "hiredis", "uvloop"])
    write(
        options.output,
        {"environment": environment, "load_average_before": load, "cpu_microseconds": figures},
    )
    show(
        f"CPU microseconds a row; scores equal to numpy's; {load_line(load, os.cpu_count())}",
        ("part", *(f"of {rows}" for rows in ROWS)),
        [
            [part, *(f"{figures[str(rows)][part] / rows:.2f}" for rows in ROWS)]
            for part in figures[str(ROWS[0])]
        ],
    )


if __name__ == "__main__":
    main()
