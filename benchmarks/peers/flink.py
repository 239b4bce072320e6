"""Flink SQL for the engines ``flink_hop`` and ``flink_over``: its own client, one task, one JVM.

The client starts a small cluster inside its own process, so all that Flink needs is one process. A
query runs twice in it: first on a few events, which is the start-up (the JVM, the planner, classes,
generated code), then on all of them, which is the work. The state is on the heap, nothing is
checkpointed, and rows go no further than a count and a sum; with ``--keep`` they go to CSV instead.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks.peers.measure import Meter, process_cpu_seconds, process_peak_mb, report
from tests.services.provision import ROOT, java_program, maven_jars

POM = Path(__file__).with_name("flink-pom.xml")
WARM_UP_EVENTS = 1_000
SECONDS_MAX = 1_500.0
HEAP = "-Xmx4g"
_CLIENT = "org.apache.flink.table.client.SqlClient"
_DONE = "Complete execution of the SQL update statement"
_SAID_LINES_MAX = 40
_SETTINGS = {
    "execution.runtime-mode": "streaming",
    "table.dml-sync": "true",
    "table.local-time-zone": "UTC",
    # Only the count at the end uses it: a change at every row would cost more than the windows.
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "5 s",
    "table.exec.mini-batch.size": "100000",
}
# A watermark of exactly the newest time would make a second event of that millisecond late.
_SOURCE = """CREATE TABLE {table} (
  card STRING, amount DOUBLE, event_timestamp TIMESTAMP_LTZ(3),
  WATERMARK FOR event_timestamp AS event_timestamp - INTERVAL '0.001' SECOND
) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601')"""


class FlinkFailedError(Exception):
    """Flink did not do what it was asked; the message has the end of what it said."""


@dataclass(frozen=True)
class Query:
    """What is asked of Flink.

    Attributes:
        kind: of the results, in ``check.KINDS``.
        emits: for the table.
        select: the features of a table of events, as SQL.
        columns: of the features: name and SQL type.
        total: a column whose sum is formed when the rows are counted, so that all are computed.
        time_column: which column is a time.
        time_name: what the check calls it.
    """

    kind: str
    emits: str
    select: Callable[[str], str]
    columns: Sequence[tuple[str, str]]
    total: Sequence[str]
    time_column: str
    time_name: str


def interval(seconds: int) -> str:
    """An interval in SQL; its digits must be few."""
    unit, length = ("HOUR", 3_600) if seconds % 3_600 == 0 else ("MINUTE", 60)
    return f"INTERVAL '{seconds // length}' {unit}"


def run(options: argparse.Namespace, query: Query) -> None:
    """Run a query as an engine: see ``measure``."""
    with options.input.open(encoding="ascii") as lines:
        events = sum(1 for _ in lines)
    meter = Meter()
    with TemporaryDirectory(prefix="headwater-flink-") as name:
        folder = Path(name)
        script = _script(options.input, folder, query, "csv" if options.keep else "print")
        rows_out = _run_client(folder, script, meter)
        if options.keep:
            table = _read(folder / "payments-out", query)
            rows_out = table.num_rows
            pq.write_table(table, options.keep / f"{query.kind}.parquet")
    versions = {"flink": flink_version()}
    report(options.output, meter, events, rows_out, query.emits, [], versions)


def flink_version() -> str:
    """As in the pom."""
    return str(ElementTree.parse(POM).findtext("properties/flink.version"))


def _script(source: Path, folder: Path, query: Query, sink: str) -> Path:
    few = folder / "few.ndjson"
    with source.open(encoding="ascii") as lines:
        few.write_text("".join(islice(lines, WARM_UP_EVENTS)), encoding="ascii")
    statements = [f"SET '{name}' = '{value}'" for name, value in _SETTINGS.items()]
    for table, path in (("warm_up", few), ("payments", source.resolve())):
        statements.append(_SOURCE.format(table=table, path=path))
        select, columns = query.select(table), ", ".join(map(" ".join, query.columns))
        place = f"'connector' = 'filesystem', 'path' = '{folder}/{table}-out', 'format' = 'csv'"
        if sink == "print":
            totals = ", ".join(f"SUM({name})" for name in query.total)
            select = f"SELECT COUNT(*), {totals} FROM ({select})"
            columns = ", ".join(["row_count BIGINT", *(f"{name} DOUBLE" for name in query.total)])
            place = "'connector' = 'print'"
        statements.append(f"CREATE TABLE {table}_out ({columns}) WITH ({place})")
        statements.append(f"INSERT INTO {table}_out {select}")
    script = folder / "features.sql"
    script.write_text("".join(f"{statement};\n" for statement in statements), encoding="ascii")
    (folder / "config.yaml").write_text("execution.target: local\nparallelism.default: 1\n")
    return script


def _run_client(folder: Path, script: Path, meter: Meter) -> int:
    """Measure the second query; the number of rows that it counted, 0 if it did not count."""
    java = java_program()
    jars = maven_jars(POM, ROOT / "build" / f"flink-{flink_version()}" / "lib", "Flink")
    setpriv = shutil.which("setpriv")
    # Who runs us may have to kill us, and then nobody else would end it.
    command = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    command += [java, HEAP, "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    command += ["-cp", f"{jars}/*", _CLIENT, "embedded", "-f", str(script)]
    client = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "FLINK_CONF_DIR": str(folder), "TERM": "dumb"},
    )
    deadline = threading.Timer(SECONDS_MAX, client.kill)
    deadline.start()
    try:
        _expect_done(client)
        meter.others = lambda: process_cpu_seconds(client.pid)
        with meter.work():
            rows = _expect_done(client)
        meter.peak_mb = process_peak_mb(client.pid)
    finally:
        deadline.cancel()
        client.kill()
        client.wait()
    return rows


def _expect_done(client: subprocess.Popen[str]) -> int:
    """Wait for the end of a query; the last count that it printed."""
    rows, said = 0, list[str]()
    assert client.stdout is not None
    for line in client.stdout:
        said.append(line.rstrip())
        if found := re.search(r"\+[IU]\[(\d+)", line):
            rows = int(found[1])
        if "[ERROR]" in line:
            said += [more.rstrip() for more in islice(client.stdout, _SAID_LINES_MAX)]
            break
        if _DONE in line:
            return rows
    raise FlinkFailedError("\n".join(said[-_SAID_LINES_MAX:]))


def _read(folder: Path, query: Query) -> pa.Table:
    """What the query wrote, with the columns that the check wants."""
    names = [name.strip("`") for name, _ in query.columns]
    types = {query.time_column: pa.timestamp("us", "UTC")}
    # Flink's name for a file that is complete; what is not ends otherwise.
    files = sorted(folder.glob("part-*"))
    parts = [
        pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(column_names=names),
            convert_options=pa_csv.ConvertOptions(column_types=types),
        )
        for path in files
    ]
    table = pa.concat_tables(parts)
    place = names.index(query.time_column)
    times = table.column(place).cast(pa.int64())
    return table.set_column(place, query.time_name, times)
