"""The evaluator: records of served rows per second, and what a row takes that waits for its label.

One core, through all that a run does but reading the log and writing its state: decoding records,
joining them with labels, the figures by version and segment. Before anything is reported every row
must have found its label. The waiting rows are measured by what the process has allocated.
"""

from __future__ import annotations

import argparse
import json
import pickle
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._environment import describe, load_average, write
from contracts.feature_schema import FeatureSchema, VectorField
from contracts.log import Chunk
from contracts.plan import ModelPlan
from dataflows.served.join import ServedJoin
from dataflows.served.model import ServedLabels, ServedModel
from dataflows.served.rows import RecordReader, Remembered, ServedRow

SCHEMA = FeatureSchema(
    "shop", tuple(VectorField(f"f{i}", "request", "float64", 0.0) for i in range(20))
)
HOUR_US = 3_600_000_000
CHUNK = 5_000
PLAN = ModelPlan(
    "late",
    "orders",
    "id",
    "outcomes",
    "id",
    "days > 3",
    HOUR_US,
    HOUR_US,
    (),
    SCHEMA,
    segments=("carrier",),
)


def chunk_of(first: int, count: int) -> Chunk:
    """Records of requests with one row of 20 fields each."""
    generator = np.random.default_rng(first)
    scores = generator.random(count)
    records = []
    for place in range(count):
        row = {
            "inputs": {"carrier": f"c{place % 16}", **{f"f{i}": 0.5 for i in range(20)}},
            "vector": [0.5] * 20,
            "missing": [],
            "oldest_feature_us": None,
            "newest_feature_us": None,
            "score": float(scores[place]),
            "key": f"flight-2013-{first + place:09d}",
            "channel": "champion",
        }
        record = {
            "request_id": f"{first + place:032x}",
            "event_timestamp": "2013-01-01T00:00:00.000000Z",
            "model": "late",
            "version": "12",
            "fingerprint": SCHEMA.fingerprint,
            "features": list(SCHEMA.names),
            "at_us": 1_000,
            "latency_ms": 1.0,
            "rows": [row],
            "channel": "champion",
        }
        records.append(json.dumps(record).encode())
    sizes = np.array([len(record) + 1 for record in records])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return Chunk(b"\n".join(records) + b"\n", starts, starts, int(sizes.sum()))


def throughput(rows: int) -> dict[str, Any]:
    """Rows and their labels through one model."""
    chunks = [chunk_of(first, CHUNK) for first in range(0, rows, CHUNK)]
    model = ServedModel(PLAN)
    reader = RecordReader(lambda name: name == "late", Remembered(65_536))
    nothing = ServedLabels([], [], [])
    begin = time.process_time()
    for chunk in chunks:
        model.add(reader.read(chunk), nothing, 0)
    middle = time.process_time()
    for first in range(0, rows, CHUNK):
        keys = [f"flight-2013-{number:09d}" for number in range(first, first + CHUNK)]
        model.add([], ServedLabels(keys, [2_000] * CHUNK, [1.0, 0.0] * (CHUNK // 2)), 0)
    end = time.process_time()
    if model.joined.joined != rows or model.waiting:
        raise AssertionError(f"{model.joined} of {rows} rows")
    return {
        "rows": rows,
        "rows_per_cpu_second": rows / (middle - begin),
        "labels_per_cpu_second": rows / (end - middle),
        "both_per_cpu_second": rows / (end - begin),
    }


def waiting(rows: int) -> dict[str, Any]:
    """What so many rows take that wait for their label, and what saving them takes."""
    join = ServedJoin(HOUR_US, 1, has_classes=False, on_timeout=None, rows_max=rows)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    keys = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, rows)
    for first in range(0, rows, CHUNK):
        some = [
            ServedRow(
                int(key), int(key) // 3, 1_000, 0.5, "12", "champion", True, int(key) >> 32, ("UA",)
            )
            for key in keys[first : first + CHUNK]
        ]
        join.add(some, [], [], [], 0)
    del some
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    begin = time.process_time()
    size = len(pickle.dumps(join.dump(), pickle.HIGHEST_PROTOCOL))
    return {
        "rows": rows,
        "bytes_per_waiting_row": (after - before - keys.nbytes) / rows,
        "state_bytes_per_waiting_row": size / rows,
        "saving_cpu_seconds": time.process_time() - begin,
    }


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    arguments = parser.parse_args()
    loads = load_average()
    figures = {"throughput": throughput(arguments.rows), "waiting": waiting(arguments.waiting)}
    for name, found in figures.items():
        print(name, found)
    write(arguments.output, {**describe(["numpy", "msgspec"]), "load": loads, **figures})


if __name__ == "__main__":
    main()
