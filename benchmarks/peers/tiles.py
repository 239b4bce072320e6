"""What one would write by hand for one card: tiles in dicts, of each window as long as it is."""

from __future__ import annotations

from datetime import datetime

from benchmarks.peers.workload import WINDOWS

_SECOND_US = 1_000_000
_SIZES = tuple((hop * _SECOND_US, length // hop) for length, hop in WINDOWS.values())


def to_micros(stamp: str) -> int:
    """Microseconds since 1970 UTC of a time as it stands in the events, to the millisecond."""
    # A double holds today's seconds to a quarter of a microsecond.
    return round(datetime.fromisoformat(stamp).timestamp() * 1_000) * 1_000


class CardTiles:
    """Count, sum and maximum of the tiles of each window of one card; events come in order."""

    __slots__ = ("windows",)

    def __init__(self) -> None:
        self.windows: tuple[dict[int, list[float]], ...] = tuple({} for _ in _SIZES)

    def add(self, time_us: int, amount: float) -> tuple[float, ...]:
        """Add an event; the nine values at its time, windows by hops, itself included."""
        values: list[float] = []
        for tiles, (hop_us, most) in zip(self.windows, _SIZES, strict=True):
            now = time_us // hop_us
            tile = tiles.get(now)
            if tile is None:
                for old in [at for at in tiles if at <= now - most]:
                    del tiles[old]
                tiles[now] = [1, amount, amount]
            else:
                tile[0] += 1
                tile[1] += amount
                if amount > tile[2]:
                    tile[2] = amount
            count, total, largest = 0.0, 0.0, amount
            for one, part, most_of_tile in tiles.values():
                count += one
                total += part
                if most_of_tile > largest:
                    largest = most_of_tile
            values += (count, total, largest)
        return tuple(values)
