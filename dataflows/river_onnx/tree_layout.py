"""Trees of whatever kind, laid out as arrays."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .tree_ensemble import Test, Tree


class Split(NamedTuple):
    """What a node asks of a row, and where the row goes then.

    Attributes:
        feature: the input's column.
        test: the row goes left if column ``test`` threshold.
        threshold: see above.
        left: whatever stands for the left child.
        right: whatever stands for the right child.
        missing_left: whether a row whose column is NaN goes left.
    """

    feature: int
    test: Test
    threshold: float
    left: Any
    right: Any
    missing_left: bool


def lay_out(root: Any, expand: Callable[[Any], Split | float]) -> Tree:
    """Lay a tree out from its root.

    Args:
        root: whatever stands for the root.
        expand: gives a node's split, or its value if it is a leaf. It is asked once for each
            place in the tree, parents before their children, left before right.
    """
    splits: list[Split] = []
    leaves: list[float] = []
    lefts: list[int] = []
    rights: list[int] = []
    # Of a node not yet laid out: itself, and the place and side of its parent.
    waiting: list[tuple[Any, int, int]] = [(root, -1, 0)]
    while waiting:
        node, parent, side = waiting.pop()
        found = expand(node)
        if isinstance(found, Split):
            place = len(splits)
            splits.append(found)
            lefts.append(0)
            rights.append(0)
            waiting.append((found.right, place, 1))
            waiting.append((found.left, place, 0))
        else:
            place = ~len(leaves)
            leaves.append(found)
        if parent >= 0:
            (rights if side else lefts)[parent] = place
    return Tree(
        [split.feature for split in splits],
        [split.test for split in splits],
        [split.threshold for split in splits],
        lefts,
        rights,
        [split.missing_left for split in splits],
        leaves,
    )


@dataclass(frozen=True)
class Among:
    """The node that tells apart ``options[first:last]``, numbered by a column."""

    column: int
    options: Sequence[Any]
    first: int
    last: int

    def expand(self) -> Split | Any:
        """Its split; the option itself if there is just one left."""
        if self.last - self.first == 1:
            return self.options[self.first]
        middle = (self.first + self.last) // 2
        return Split(
            feature=self.column,
            test="<=",
            threshold=middle - 0.5,
            left=Among(self.column, self.options, self.first, middle),
            right=Among(self.column, self.options, middle, self.last),
            missing_left=True,
        )


def search_tree(column: int, found: dict[float, float], otherwise: float) -> Tree:
    """A tree that looks a column's value up.

    Args:
        column: of the input.
        found: the tree's value for each value of the column.
        otherwise: the tree's value for all others, and for NaN.
    """
    keys = sorted(found)

    def expand(node: tuple[int, int] | float) -> Split | float:
        if not isinstance(node, tuple):
            return node
        first, last = node
        if last - first == 1:
            key = keys[first]
            return Split(column, "==", key, found[key], otherwise, missing_left=False)
        middle = (first + last) // 2
        left, right = (first, middle), (middle, last)
        return Split(column, "<=", keys[middle - 1], left, right, missing_left=True)

    return lay_out((0, len(keys)) if keys else otherwise, expand)


class Numbered:
    """Things numbered in the order in which they are first asked for.

    Attributes:
        things: all of them, in that order.
    """

    def __init__(self) -> None:
        self.things: list[Any] = []
        self._places: dict[Hashable, int] = {}

    def place(self, thing: Any, key: Hashable) -> int:
        """The thing's number; equal keys mean the same thing."""
        place = self._places.setdefault(key, len(self.things))
        if place == len(self.things):
            self.things.append(thing)
        return place
