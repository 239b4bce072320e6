"""How large the records of a request will be, known before they are made: for a true bound."""

from __future__ import annotations

import msgspec

from scorer.scored import ScoredRequest

# Characters of ids in all rows of a request: it stands in each record, and in keys of rows.
IDS_MAX = 16 * 1024 * 1024
# At most, in JSON: a character, a number, and the rest of a row and of a record.
_CHARACTER_BYTES, _NUMBER_BYTES, _ROW_BYTES, _RECORD_BYTES = 6, 27, 300, 1_000
_encode = msgspec.json.Encoder().encode


def size_max(request: ScoredRequest | list[tuple[str, bytes]], record_bytes_max: int) -> int:
    """What the records of a request take at most, bytes, without making them.

    Args:
        request: of any number of rows; or its records, where they are made already.
        record_bytes_max: one of more bytes is cut, if it has several rows.
    """
    if not isinstance(request, ScoredRequest):
        return sum(len(data) for _, data in request)
    manifest, count = request.manifest, len(request.scores)
    names, labels = manifest.schema.names, manifest.classes or ()
    inputs = next(iter(request.inputs), {})
    given = [value for row in request.inputs for value in row.values() if type(value) is str]
    texts = sum(map(len, given)) + sum(map(len, request.keys))
    missing = sum(map(len, request.vectors.missing))
    longest = max((len(_encode(one)) + 1 for one in (*names, *labels)), default=0)
    columns = len(names) + len(labels) + len(inputs)
    rows = (
        count * (_ROW_BYTES + _NUMBER_BYTES * columns + len(_encode(list(inputs))) + longest)
        + missing * longest
        + _CHARACTER_BYTES * texts
    )
    of_id = _CHARACTER_BYTES * len(request.request_id)
    of_record = _RECORD_BYTES + len(_encode([names, labels])) + of_id
    if rows + of_record <= record_bytes_max:
        return rows + of_record
    # It is cut in halves, again and again, and its rows may be named after it.
    rows += count * of_id
    full = max(1, record_bytes_max - of_record)
    records = min(count, (2 + 2 * rows // full) * count.bit_length())
    return rows + records * of_record
