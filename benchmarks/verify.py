"""`headwater verify`: events of the log that are replayed per CPU-second for what was served.

Card payments in files, count, sum and max of a card over an hour. First few of the cards were asked
for, then nearly all of them. Every served value is computed from scratch, and all must be equal.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks._environment import describe, load_average, write
from benchmarks._payments import payment
from contracts.feature_schema import FeatureSchema, VectorField
from contracts.plan import Aggregate, Column, ModelPlan, Plan, Topic, View
from contracts.prediction_record import PredictionRecord, ScoredRow
from contracts.settings import DataflowSettings
from dataflows.verify.verify import Terms, verify

BEGIN_US = 1_750_000_000_000_000
WINDOW_US, HOP_US = 3_600_000_000, 300_000_000
SPAN_US = 6 * WINDOW_US
CARDS = 20_000
REQUESTS = {"few": 500, "nearly_all": 60_000}
FUNCTIONS = ("count", "sum", "max")
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SCHEMA = FeatureSchema(
    "bench",
    tuple(
        VectorField(f"cards:{one}", "feature", "float64", 0.0, "cards", one, ("card",), ("string",))
        for one in FUNCTIONS
    ),
)
TOPIC = Topic(
    "payments",
    (
        Column("card", "string", False),
        Column("amount", "float64", False),
        Column("event_timestamp", "timestamp", False),
    ),
    "event_timestamp",
    0,
    "card",
)
CARD_VIEW = View(
    "cards",
    "payments",
    ("card",),
    ("string",),
    tuple(Aggregate(one, "float64", "amount", one, WINDOW_US, HOP_US) for one in FUNCTIONS),  # type: ignore[arg-type]
    0,
    "",
)
MODEL = ModelPlan("fraud", "payments", "card", "", "", "", 1, 1, ("cards",), SCHEMA, task="anomaly")
PLAN = Plan("bench", (TOPIC,), (CARD_VIEW,), (MODEL,))


def write_log(folder: Path, of_card: Ints, amounts: Ints, times_us: Ints) -> None:
    """All payments, in one partition."""
    (folder / "payments").mkdir(parents=True)
    with (folder / "payments" / "0.ndjson").open("wb") as file:
        rows = zip(of_card.tolist(), amounts.tolist(), times_us.tolist(), strict=True)
        file.writelines(
            payment(f"card-{card}", float(amount), at) + b"\n" for card, amount, at in rows
        )


def write_served(folder: Path, served: int, of_card: Ints, amounts: Ints, times_us: Ints) -> None:
    """The prediction log, of random cards at random moments."""
    generator = np.random.default_rng(7)
    order = np.argsort(of_card, kind="stable")
    ends = np.searchsorted(of_card[order], np.arange(CARDS + 1))
    encode = msgspec.json.Encoder().encode
    cards = generator.integers(0, CARDS, served).tolist()
    moments = generator.integers(BEGIN_US, BEGIN_US + SPAN_US - WINDOW_US, served).tolist()
    topic = folder / "predictions"
    topic.mkdir()
    with (topic / "0.ndjson").open("wb") as file:
        for number, (card, at_us) in enumerate(zip(cards, moments, strict=True)):
            own = order[ends[card] : ends[card + 1]]
            row = ScoredRow(
                {"card": f"card-{card}"}, vector_at(times_us[own], amounts[own], at_us), [], None,
                None, 0.5,
            )  # fmt: skip
            record = PredictionRecord(
                f"{number}", "", "fraud", "1", SCHEMA.fingerprint, list(SCHEMA.names), at_us, 0.1,
                [row],
            )  # fmt: skip
            file.write(encode(record) + b"\n")


def vector_at(times_us: Ints, amounts: Ints, at_us: int) -> list[float | None]:
    """Count, sum and max at a moment, from scratch."""
    first_us = (at_us // HOP_US + 1) * HOP_US - WINDOW_US
    own = amounts[(times_us >= first_us) & (times_us < at_us)]
    return [float(len(own)), float(own.sum()), float(own.max())] if len(own) else [0.0, 0.0, 0.0]


def measure(events: int, served: int) -> dict[str, Any]:
    """One verification, after a short one that has the kernels compiled."""
    generator = np.random.default_rng(2013)
    times_us = BEGIN_US + np.arange(events) * SPAN_US // events
    of_card, amounts = generator.integers(0, CARDS, events), generator.integers(1, 1_000, events)
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as name:
        folder = Path(name)
        write_log(folder / "log", of_card, amounts, times_us)
        write_served(folder / "log", served, of_card, amounts, times_us)
        settings = DataflowSettings.for_repo(folder, log_url=(folder / "log").as_uri())
        verify(PLAN, {}, settings, Terms(to_us=BEGIN_US + SPAN_US // 50))
        begin, cpu = time.perf_counter(), time.process_time()
        report = verify(PLAN, {}, settings, Terms())
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    rows = report.models["fraud"].rows
    assert rows.equal == rows.compared == served, rows
    return {
        "events": report.events,
        "served": served,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "events_per_cpu_second": report.events / cpu_seconds,
    }


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--events", type=int, default=1_000_000)
    arguments = parser.parse_args()
    loads = load_average()
    figures = {name: measure(arguments.events, served) for name, served in REQUESTS.items()}
    for name, found in figures.items():
        print(name, found)
    write(arguments.output, {**describe(["numpy", "numba", "msgspec"]), "load": loads, **figures})


if __name__ == "__main__":
    main()
