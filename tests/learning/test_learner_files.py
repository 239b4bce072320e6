"""A learner whose state is kept in files as the dataflow keeps it, and that is killed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.learning.learner import Learner
from dataflows.learning.records import Labels, Learned, LearnerSpec, Predictions
from dataflows.state_files import HANDLES_KEPT, Handle, StateFiles
from tests.learning.rows import END_US, ROWS, Row, advance, labels_of, predictions, spec
from tests.learning.test_learner_cuts import in_one


class Process:
    """A learner and its files, as ``ModelLogic`` has them."""

    def __init__(self, wanted: LearnerSpec, folder: Path, handle: Handle | None) -> None:
        self._files = StateFiles(folder, handle)
        self._numbers: dict[int, int] = {}
        if handle is None:
            self.learner = Learner(wanted)
        else:
            head, *parts = self._files.read()
            self.learner = Learner.load(wanted, head, parts)
            self._numbers = dict(zip(self.learner.part_names, handle[1:], strict=True))

    def snapshot(self) -> Handle:
        """Write what is new."""
        saved = self.learner.save()
        written = {name: self._files.write_part(part) for name, part in saved.new.items()}
        known = self._numbers | written
        self._numbers = {name: known[name] for name in saved.parts}
        return self._files.write_head(saved.head, list(self._numbers.values()))


def calls(rows: list[Row], size: int) -> list[tuple[Predictions, Labels, int]]:
    """The rows cut by watermarks into pieces of about ``size`` microseconds."""
    every, truths = predictions(rows), labels_of(rows)
    found = []
    for begin, end in zip(range(0, 90, size), [*range(size, 90, size), END_US], strict=False):
        of_end = END_US if end >= 90 else end
        first, last = np.searchsorted(every.times_us, [begin, of_end]).tolist()
        one, other = np.searchsorted(truths.times_us, [begin, of_end]).tolist()
        found.append(
            (
                Predictions(
                    every.keys[first:last], every.times_us[first:last], every.features[first:last]
                ),
                Labels(
                    truths.keys[one:other], truths.times_us[one:other], truths.values[one:other]
                ),
                of_end,
            )
        )
    return found


@settings(deadline=None, max_examples=15)
@given(
    rows=ROWS,
    size=st.integers(3, 20),
    timeout_us=st.integers(1, 25),
    kills=st.lists(st.tuples(st.integers(1, 12), st.integers(1, HANDLES_KEPT - 1)), max_size=4),
)
def test_a_kill_between_a_snapshot_and_its_commit_leaves_no_trace(
    rows: list[Row], size: int, timeout_us: int, kills: list[tuple[int, int]]
) -> None:
    """Going on from the last durable handle, though newer files are there, gives the same."""
    wanted = spec(timeout_us=timeout_us, every_us=30)
    whole = Learner(wanted)
    expected = in_one([advance(whole, predictions(rows), labels_of(rows)), whole.finish(END_US)])
    pieces, left = calls(rows, size), list(kills)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "late"
        process = Process(wanted, folder, None)
        results: list[Learned] = []
        handles: list[tuple[int, Handle | None]] = [(0, None)]
        durable = 1
        while len(results) < len(pieces):
            results.append(process.learner.advance(*pieces[len(results)]))
            handles.append((len(results), process.snapshot()))
            if left and len(results) == left[0][0]:
                # So many snapshots were never committed; what was gone on from, was.
                lost = min(left.pop(0)[1], len(handles) - durable)
                handles = handles[: len(handles) - lost]
                durable = len(handles)
                done, handle = handles[-1]
                del results[done:]
                process = Process(wanted, folder, handle)
        results.append(process.learner.finish(END_US))
        assert in_one(results) == expected
