"""The features by hand: a loop over the lines, and for each card its tiles in dicts.

No engine: no state that survives, no order but that of the file, no late events. It is what
``bytewax_stateful_map`` does for each event, without Bytewax.
"""

from __future__ import annotations

from pathlib import Path

import orjson

from benchmarks.peers.measure import Meter, engine_arguments, report
from benchmarks.peers.results import EachEvent
from benchmarks.peers.tiles import CardTiles, to_micros


def main() -> None:
    """Run, report, and keep the results if asked."""
    options = engine_arguments(__doc__).parse_args()
    results = EachEvent() if options.keep else None
    meter = Meter()
    with meter.work():
        events = run(options.input, results)
    report(
        options.output,
        meter,
        events,
        events,
        "9 values per event",
        ["orjson"],
    )
    if results is not None:
        results.write(options.keep / "each_event_hops.parquet")


def run(source: Path, results: EachEvent | None) -> int:
    """The nine values at each event of the file; how many events there were."""
    cards: dict[str, CardTiles] = {}
    count = 0
    with source.open("rb") as lines:
        for line in lines:
            event = orjson.loads(line)
            name = event["card"]
            tiles = cards.get(name)
            if tiles is None:
                tiles = cards[name] = CardTiles()
            time_us = to_micros(event["event_timestamp"])
            values = tiles.add(time_us, event["amount"])
            count += 1
            if results is not None:
                results.add(name, time_us, values)
    return count


if __name__ == "__main__":
    main()
