"""Only what has to be done before any feature can be computed: ``polars.read_ndjson``, one thread.

Times stay text. ``--columns all``: as it comes; ``--columns wanted``: told which three to take.
"""

from __future__ import annotations

import os

from benchmarks.peers.measure import Meter, engine_arguments, report


def main() -> None:
    """Run, report, and keep the results if asked."""
    parser = engine_arguments(__doc__)
    parser.add_argument("--columns", choices=("all", "wanted"), default="all")
    options = parser.parse_args()
    # One worker, like the others. Polars reads this when it is imported.
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars as pl

    wanted = {"card": pl.String, "amount": pl.Float64, "event_timestamp": pl.String}
    meter = Meter()
    with meter.work():
        columns = wanted if options.columns == "wanted" else None
        events = pl.read_ndjson(options.input, schema=columns)
    report(options.output, meter, events.height, 0, "nothing", ["polars"])
    if options.keep:
        stamp = pl.col("event_timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us")
        parsed = events.select("card", "amount", time_us=stamp)
        parsed.write_parquet(options.keep / "parsed.parquet")


if __name__ == "__main__":
    main()
