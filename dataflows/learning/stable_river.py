"""Has River compute the same in every process.

``compose.Select`` keeps its names in a set and hands columns on in its order, which differs from
one process to the next: sums are then added up in another order, and a replay makes other versions.
"""

from __future__ import annotations

from river import compose


def _keep_order(self: compose.Select, *keys: str) -> None:
    # A dictionary, so that they stay in the order in which they were given.
    self.keys = dict.fromkeys(keys)  # type: ignore[assignment]


def keep_order_of_names() -> None:
    """From now on selections keep the order of their names; made before, they stay as they are."""
    compose.Select.__init__ = _keep_order  # type: ignore[assignment,method-assign]
