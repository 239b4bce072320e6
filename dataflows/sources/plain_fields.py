"""What is wanted of plain JSON objects, and what was read of them, for a compiled loop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]


class Fields(NamedTuple):
    """What is wanted of each object.

    Attributes:
        names: uint64[k, w], each name in quotes and the colon behind it, with zeros to its end.
        masks: uint64[k, w], which bits of these count.
        sizes: int64[k], how many bytes of these count.
        kinds: int64[k], ``TEXT`` to ``TIME``.
        is_nullable: bool[k].
    """

    names: Words
    masks: Words
    sizes: Ints
    kinds: Ints
    is_nullable: Bools


class Cells(NamedTuple):
    """What was read; ``ints`` and ``doubles`` are two views of one memory.

    Attributes:
        ints: int64[k, n]: where a text begins, or the integer.
        doubles: float64[k, n]: numbers, booleans and times (microseconds), NaN for null.
        sizes: int64[k, n]: the size of a text, ``IS_NULL`` for null, else ``DONE``; of a number of
            many digits the size of what ``ints`` has the place of, which is still to be read.
    """

    ints: Ints
    doubles: Floats
    sizes: Ints
