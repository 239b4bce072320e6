"""When each row is judged: as soon as all is known that its verdict depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dataflows.verify.judge import Judge
from dataflows.verify.report import ModelFound
from dataflows.verify.served_rows import ServedRow

# Rows whose on-demand views are run together.
_TOGETHER_MAX = 4_096

OnRow = Callable[[ServedRow, str], None]


class Judging:
    """Judges rows as soon as all is known that their verdict depends on."""

    def __init__(
        self,
        rows: Sequence[ServedRow],
        judges: Mapping[str, Judge],
        found: Mapping[str, ModelFound],
        on_row: OnRow,
    ) -> None:
        """``rows`` by their moments; of each model who judges and where that is counted."""
        self._rows = rows
        self._next = 0
        self._judges = judges
        self._found = found
        self._on_row = on_row

    @property
    def needed_us(self) -> int:
        """No row that is left is of an earlier moment."""
        return self._rows[min(self._next, len(self._rows) - 1)].at_us

    def is_done(self, known_us: int) -> bool:
        """Judge the rows up to a moment; whether none is left."""
        while self._next < len(self._rows) and self._rows[self._next].at_us <= known_us:
            begin = self._next
            end = min(begin + _TOGETHER_MAX, len(self._rows))
            while self._rows[end - 1].at_us > known_us:
                end -= 1
            self._next = end
            self._judge(self._rows[begin:end])
        return self._next == len(self._rows)

    def finish(self, known_us: int) -> None:
        """Judge what the log knows the moment of; the others are not yet known."""
        self.is_done(known_us)
        for row in self._rows[self._next :]:
            self._found[row.model].rows.not_yet_known += 1

    def _judge(self, rows: Sequence[ServedRow]) -> None:
        by_model: dict[str, list[ServedRow]] = {}
        for row in rows:
            by_model.setdefault(row.model, []).append(row)
        for name, own in by_model.items():
            for row, judged in zip(own, self._judges[name].judge(own), strict=True):
                self._on_row(row, self._found[name].add(row, judged))
