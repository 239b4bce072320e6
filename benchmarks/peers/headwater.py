"""Headwater as its users run it: a Feast repository, the flow from a file log, one worker.

Two parts are replaced by ones that cost next to nothing, so that what is measured ends where the
other engines end, at the rows: the online store is a dict with the last row of each card, and of
offline rows only the number is kept (``--rows each``), unless they go to the offline store as usual
(``--rows stored``). With ``--rows last`` the view is served only and has no offline rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from benchmarks.peers.measure import Meter, engine_arguments, report
from benchmarks.peers.workload import FEATURES, FUNCTIONS, WINDOWS, Floats, Ints
from contracts.feast_bytes import decode_entity_key
from contracts.plan import View
from contracts.settings import PREFIX, DataflowSettings
from dataflows.definitions.repository import load_repository
from dataflows.flow import build
from dataflows.flow.engine import default_places, run_flow
from dataflows.flow.sinks import TableRows
from dataflows.windows.view_state import warm_up

DEFINITIONS = f"""
from datetime import timedelta

from feast import Entity, FeatureService, Field, FileSource, KafkaSource, StreamFeatureView
from feast import ValueType
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Float64, Int64, String

card = Entity(name="card", join_keys=["card"], value_type=ValueType.STRING)
payments = KafkaSource(
    name="payments", topic="payments", kafka_bootstrap_servers="localhost:9092",
    timestamp_field="event_timestamp",
    message_format=JsonFormat(
        schema_json="card string not null, amount double not null, "
        "event_timestamp timestamp not null"
    ),
    watermark_delay_threshold=timedelta(0),
    batch_source=FileSource(
        name="cards_files", path="data/offline/cards", timestamp_field="event_timestamp"
    ),
)
WINDOWS = {WINDOWS!r}
FUNCTIONS = {FUNCTIONS!r}
cards = StreamFeatureView(
    name="cards", entities=[card], source=payments, mode="python",
    timestamp_field="event_timestamp", tags={{"headwater.offline": "HISTORY"}},
    aggregations=[
        Aggregation(
            column="amount", function=function, name=f"{{function}}_{{window}}",
            time_window=timedelta(seconds=length), slide_interval=timedelta(seconds=hop),
        )
        for window, (length, hop) in WINDOWS.items()
        for function in FUNCTIONS
    ],
    schema=[Field(name="card", dtype=String)]
    + [
        Field(name=f"{{function}}_{{window}}", dtype=Int64 if function == "count" else Float64)
        for window in WINDOWS
        for function in FUNCTIONS
    ],
)
service = FeatureService(name="cards", features=[cards])
"""
STORE = """
project: peers
provider: local
registry: data/registry.db
online_store: {type: sqlite, path: data/online.db}
offline_store: {type: file}
entity_key_serialization_version: 3
"""
EMITS = {
    "last": "last values",
    "each": "9 values per event and decay, last values",
    "stored": "9 values per event and decay, as Parquet; last values",
}
# More than the whole log, so that no epoch waits for the end of the one before.
EPOCH_BYTES_MAX = 1 << 30


class LastRows:
    """An online store in memory: the last row of each entity.

    Attributes:
        places: entity key -> place in ``values``.
        values: float64[at least as many as there are places, 9].
    """

    def __init__(self) -> None:
        self.places: dict[bytes, int] = {}
        self.values: Floats = np.empty((0, len(FEATURES)))

    def ensure_table(self, view: View) -> None:
        """There is but one view."""

    def write(
        self,
        view: View,
        keys: Sequence[bytes],
        stamps_us: Ints,
        values: Floats,
        texts: Sequence[str] = (),
    ) -> int:
        """Take rows; as ``OnlineWriter``."""
        known = self.places
        places = [known.setdefault(key, len(known)) for key in keys]
        if len(known) > len(self.values):
            room = np.empty((len(known), len(FEATURES)))
            self.values = np.concatenate([self.values, room])
        self.values[places] = values
        return len(keys)

    def commit(self) -> None:
        """All is visible at once."""

    def close(self) -> None:
        """Nothing to close."""


class RowCounter(DynamicSink[tuple[str, TableRows]]):
    """Takes the place of the offline tables: counts their rows, and may keep them."""

    def __init__(self) -> None:
        self.rows = 0
        self.kept: list[pa.RecordBatch] | None = None

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[tuple[str, TableRows]]:
        """The only worker's part."""
        return _CountingPart(self)


class _CountingPart(StatelessSinkPartition[tuple[str, TableRows]]):
    def __init__(self, counter: RowCounter) -> None:
        self._counter = counter

    def write_batch(self, items: list[tuple[str, TableRows]]) -> None:
        """Count."""
        for _, item in items:
            if item.batch is not None:
                self._counter.rows += item.batch.num_rows
                if self._counter.kept is not None:
                    self._counter.kept.append(item.batch)


def make_repository(folder: Path, source: Path, history: str) -> None:
    """A Feast repository with a log of one partition, which is ``source``."""
    topic = folder / "data/log/payments"
    topic.mkdir(parents=True)
    (topic / "0.ndjson").symlink_to(source.absolute())
    (folder / "definitions.py").write_text(DEFINITIONS.replace("HISTORY", history))
    (folder / "feature_store.yaml").write_text(STORE)


@contextmanager
def replaced(store: LastRows, counter: RowCounter | None) -> Iterator[None]:
    """The flow writes to these; without a counter offline rows go to the offline store."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(build, "open_online_writer", lambda *_: store))
        if counter is not None:
            stack.enter_context(patch.object(build, "_table_sink", lambda *_: counter))
        yield


def main() -> None:
    """Run, report, and keep the results if asked."""
    parser = engine_arguments(__doc__)
    parser.add_argument("--rows", choices=EMITS, default="last")
    parser.add_argument("--epoch-seconds", type=float, default=10.0)
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    store, counter = LastRows(), RowCounter()
    if options.keep:
        counter.kept = []
    with TemporaryDirectory(prefix="headwater-peer-") as name:
        folder = Path(name)
        make_repository(folder, options.input, "false" if options.rows == "last" else "true")
        settings = DataflowSettings.for_repo(
            folder,
            epoch_seconds=options.epoch_seconds,
            epoch_bytes_max=EPOCH_BYTES_MAX,
            idle_timeout_seconds=0.0,
        )
        repository = load_repository(folder)
        places = default_places(repository, settings)
        warm_up()
        meter = Meter()
        with replaced(store, None if options.rows == "stored" else counter), meter.work():
            tally = run_flow(repository, settings, places, until_end=True).tally
    packages = ["bytewax", "feast", "numba", "numpy", "msgspec"]
    rows_out = tally.online_rows + tally.offline_rows + counter.rows
    report(options.output, meter, tally.events, rows_out, EMITS[options.rows], packages)
    if options.keep:
        write_last(store, options.keep / "at_end.parquet")
        if counter.kept:
            write_events(counter.kept, options.keep / "each_event_hops.parquet", options.input)


def write_last(store: LastRows, path: Path) -> None:
    """The last row of each card."""
    names = [decode_entity_key(key)["card"] for key in store.places]
    features = dict(zip(FEATURES, store.values[: len(names)].T, strict=True))
    pq.write_table(pa.table({"card": names, **features}), path)


def write_events(batches: Sequence[pa.RecordBatch], path: Path, source: Path) -> None:
    """Of all rows those that an event brought about: they are stamped a microsecond after it.

    All event times are whole milliseconds, and so are the moments at which a tile leaves a window.
    """
    table = pa.Table.from_batches(batches)
    stamps_us = table["event_timestamp"].cast(pa.int64()).to_numpy()
    table = table.filter(pa.array(stamps_us % 1_000 == 1))
    times_us = pa.array(stamps_us[stamps_us % 1_000 == 1] - 1)
    pq.write_table(table.append_column("time_us", times_us), path)


if __name__ == "__main__":
    main()
