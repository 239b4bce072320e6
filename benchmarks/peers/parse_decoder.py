"""Headwater's own decoder alone, in reads of the size that the flow uses.

It takes the three columns that are wanted, checks the records and parses the times.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.measure import Meter, engine_arguments, report
from contracts.file_log import PartitionFile
from contracts.plan import Column, Topic
from contracts.settings import DataflowSettings
from dataflows.sources.columns import Decoded, RecordDecoder
from dataflows.sources.decoding import make_decoder

COLUMNS = (
    Column("card", "string", nullable=False),
    Column("amount", "float64", nullable=False),
    Column("event_timestamp", "timestamp", nullable=False),
)
TOPIC = Topic("payments", COLUMNS, "event_timestamp", 0, "card")


def main() -> None:
    """Run, report, and keep the results if asked."""
    options = engine_arguments(__doc__).parse_args()
    bytes_max = DataflowSettings.model_fields["batch_bytes"].default
    decoder = make_decoder(TOPIC)
    warm_up(decoder, options.input)
    events = 0
    kept: list[Decoded] = []
    meter = Meter()
    with meter.work():
        file = PartitionFile(options.input, 0)
        while (chunk := file.read(bytes_max)) is not None:
            decoded = decoder.decode(chunk)
            events += len(decoded.event_us)
            if options.keep:
                kept.append(decoded)
        file.close()
    report(options.output, meter, events, 0, "nothing", ["msgspec", "numpy", "pyarrow"])
    if options.keep:
        write(kept, options.keep / "parsed.parquet")


def warm_up(decoder: RecordDecoder, source: Path) -> None:
    """Decode one record: some of what decoding needs is loaded by its first use."""
    file = PartitionFile(source, 0)
    chunk = file.read(1)
    file.close()
    assert chunk is not None, "no events"
    decoder.decode(chunk)


def write(batches: Sequence[Decoded], path: Path) -> None:
    """What was decoded."""
    tables = []
    for one in batches:
        columns = {name: one.columns[name] for name in ("card", "amount")}
        tables.append(pa.table({**columns, "time_us": one.event_us}))
    pq.write_table(pa.concat_tables(tables), path)


if __name__ == "__main__":
    main()
