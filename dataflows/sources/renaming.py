"""Fields that are called otherwise outside of their records."""

from __future__ import annotations

from dataclasses import replace

from contracts.log import Chunk
from contracts.plan import Topic
from dataflows.sources.columns import Decoded, RecordDecoder


class RenamingDecoder:
    """Gives the columns of another decoder the names that views and models have for them.

    Inside it, and in what it says of bad records, fields have the names that producers write.
    """

    def __init__(self, topic: Topic, decoder: RecordDecoder) -> None:
        self._names = {column.name: topic.column_name(column.name) for column in topic.columns}
        self._decoder = decoder

    def decode(self, chunk: Chunk) -> Decoded:
        """As ``RecordDecoder``."""
        decoded = self._decoder.decode(chunk)
        columns = {self._names[name]: values for name, values in decoded.columns.items()}
        return replace(decoded, columns=columns)
