"""Names of archive files, as sinks of Kafka Connect write them: ``TOPIC+PARTITION+OFFSET.EXT``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["lines", "parquet", "other"]

_NAME = re.compile(
    r"(?P<topic>[A-Za-z0-9._-]{1,249})\+(?P<partition>[0-9]{1,9})\+(?P<first>[0-9]{1,18})"
    r"(\+(?P<last>[0-9]{1,18}))?\.(?P<kind>[a-z0-9.]{1,40})"
)
_LINES = re.compile(r"(?:json|ndjson|jsonl)(?:\.(?P<compression>gz|gzip|zst|zstd))?")
# Parquet is compressed within, which some sinks say in the name.
_PARQUET = re.compile(r"(?:[a-z0-9]+\.)?parquet")
_OTHER_DATA = re.compile(r"(?:avro|bin|orc|csv|txt|json|ndjson|jsonl)(?:\.[a-z0-9]+)?")
_COMPRESSIONS = {"gz": "gzip", "gzip": "gzip", "zst": "zstd", "zstd": "zstd"}


@dataclass(frozen=True)
class ArchiveName:
    """What the name of a file says.

    Attributes:
        topic: whose records it holds.
        partition: the number of their partition.
        first: offset of its first record.
        last: offset of its last record, if the name has it (as the sink for HDFS writes it).
        kind: how records are written; ``other`` is a kind that is not read here.
        compression: of the whole file, as Arrow calls it; empty for none.
    """

    topic: str
    partition: int
    first: int
    last: int | None
    kind: Kind
    compression: str = ""


def parse_name(name: str) -> ArchiveName | None:
    """Take apart the last part of a path; None if it is not the name of records in a partition."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    kind, compression = _kind(found["kind"])
    if kind is None:
        return None
    return ArchiveName(
        topic=found["topic"],
        partition=int(found["partition"]),
        first=int(found["first"]),
        last=None if found["last"] is None else int(found["last"]),
        kind=kind,
        compression=compression,
    )


def _kind(extension: str) -> tuple[Kind | None, str]:
    lines = _LINES.fullmatch(extension)
    if lines is not None:
        return "lines", _COMPRESSIONS.get(lines["compression"] or "", "")
    if _PARQUET.fullmatch(extension):
        return "parquet", ""
    return ("other" if _OTHER_DATA.fullmatch(extension) else None), ""
