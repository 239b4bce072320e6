"""What the answers of an engine must be. Every answer is checked before any figure is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scorer.v1 import scorer_pb2

Floats = NDArray[np.float64]
Answers = Sequence[tuple[int, bytes]]

TOLERANCE = 1e-12


class Check(Protocol):
    """Compares answers with what was expected."""

    def difference(self, answers: Answers) -> float:
        """Check (number of the message, answer) pairs; the largest difference.

        Raises:
            AssertionError: an answer is wrong.
        """


@dataclass(frozen=True)
class ScoresOf:
    """Answers are ``ScoreResponse`` messages with the scores that numpy gives.

    Attributes:
        expected: float64[models, messages, rows]; version v is model ``v % models``.
    """

    expected: Floats

    def difference(self, answers: Answers) -> float:
        """As ``Check.difference``."""
        models, messages, rows = self.expected.shape
        scores = np.empty((len(answers), rows))
        wanted = np.empty_like(scores)
        for place, (number, answer) in enumerate(answers):
            response = scorer_pb2.ScoreResponse.FromString(answer)
            found = response.scores
            assert len(found) == rows, f"request {number}: {len(found)} scores, not {rows}"
            assert not any(row.missing for row in found), f"request {number} lacked features"
            assert number < messages
            scores[place] = [row.score for row in found]
            wanted[place] = self.expected[int(response.version) % models, number]
            for row, one in enumerate(found):
                if one.version:
                    wanted[place, row] = self.expected[int(one.version) % models, number, row]
        largest = float(np.abs(scores - wanted).max(initial=0.0))
        assert largest <= TOLERANCE, f"scores differ from numpy's by {largest}"
        return largest


@dataclass(frozen=True)
class Always:
    """Every answer is the same bytes."""

    answer: bytes

    def difference(self, answers: Answers) -> float:
        """As ``Check.difference``."""
        different = {answer for _, answer in answers} - {self.answer}
        assert not different, f"not the ready answer: {different.pop()!r}"
        return 0.0


@dataclass(frozen=True)
class FeaturesOf:
    """Answers are those of Feast's feature server, with these values.

    Attributes:
        names: as the server names them, in the order of the columns.
        expected: float64[messages, names].
    """

    names: tuple[str, ...]
    expected: Floats

    def difference(self, answers: Answers) -> float:
        """As ``Check.difference``."""
        largest = 0.0
        for number, answer in answers:
            found = json.loads(answer)
            columns = found["metadata"]["feature_names"]
            values = {
                name: column["values"][0]
                for name, column in zip(columns, found["results"], strict=True)
            }
            row = np.array([values[name] for name in self.names], dtype=np.float64)
            largest = max(largest, float(np.abs(row - self.expected[number]).max()))
        assert largest <= TOLERANCE, f"features differ by {largest}"
        return largest
