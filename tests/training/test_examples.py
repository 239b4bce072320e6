"""Labelled vectors out of the dataflow's Parquet files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.training.errors import TrainingError
from dataflows.training.examples import Period, read_examples
from tests.training.worlds import HOUR_US, START_US, plan_of, write_examples, write_outcomes

ALL = Period()
NAN = float("nan")


def test_a_label_finds_its_vector(tmp_path: Path) -> None:
    """Rows come in the order of their predictions, whatever the order of files and of labels."""
    write_examples(tmp_path, ["b"], [20], np.array([[4.0, 5.0, 6.0]]), "late")
    write_examples(tmp_path, ["c", "a"], [30, 10], np.array([[7.0] * 3, [1.0, 2.0, 3.0]]), "more")
    write_outcomes(tmp_path, ["b", "a"], [20, 10], [40, 50], [True, False])
    found = read_examples(plan_of(), tmp_path, ALL, ("city",))
    assert found.keys.tolist() == ["a", "b"]
    assert found.features.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert found.labels.tolist() == [0.0, 1.0]
    assert found.times_us.tolist() == [10, 20]
    assert found.label_times_us.tolist() == [50, 40]
    assert found.said["score"].tolist() == [0.25, 0.25]
    assert found.segments["city"].tolist() == ["Graz", "Graz"]


def test_what_was_said_of_classes(tmp_path: Path) -> None:
    """Whether the class that was named came true, and how probable the true one was held."""
    write_examples(tmp_path, ["a", "b"], [10, 20], np.ones((2, 3)))
    write_outcomes(tmp_path, ["a", "b"], [10, 20], [40, 50], ["early", "late"], "multiclass")
    found = read_examples(plan_of("multiclass"), tmp_path, ALL)
    assert found.said["right"].tolist() == [1.0, 0.0]
    assert found.said["truth_score"].tolist() == [0.1, 0.1]


def test_defaults_stand_where_the_scorer_puts_them(tmp_path: Path) -> None:
    """A missing value, or one that is no finite number, becomes the field's default."""
    write_examples(tmp_path, ["a"], [10], np.array([[NAN, float("inf"), 7.0]]))
    write_outcomes(tmp_path, ["a"], [10], [20], [True])
    assert read_examples(plan_of(), tmp_path, ALL).features.tolist() == [[1.0, 2.0, 7.0]]


def test_of_repeated_predictions_the_first_counts(tmp_path: Path) -> None:
    """A key predicted twice has one example: that of the outcome's time, and there the first."""
    features = np.array([[1.0] * 3, [2.0] * 3, [3.0] * 3])
    write_examples(tmp_path, ["a", "a", "a"], [10, 10, 11], features)
    write_outcomes(tmp_path, ["a"], [10], [20], [True])
    assert read_examples(plan_of(), tmp_path, ALL).features.tolist() == [[1.0] * 3]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.booleans()), max_size=12))
def test_equals_a_loop(rows: list[tuple[int, int, bool]]) -> None:
    """The join is that of a loop over keys and times."""
    keys, times = [f"k{key}" for key, _, _ in rows], [time for _, time, _ in rows]
    features = np.arange(3.0 * len(rows)).reshape(-1, 3)
    first: dict[tuple[int, str], int] = {}
    for row, place in enumerate(zip(times, keys, strict=True)):
        first.setdefault(place, row)
    labelled = [place for place, row in first.items() if rows[row][2]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_examples(folder, keys, times, features)
        names, moments = [key for _, key in labelled], [time for time, _ in labelled]
        write_outcomes(folder, names, moments, [9] * len(labelled), [True] * len(labelled))
        if not labelled:
            with pytest.raises(TrainingError, match="no labelled examples"):
                read_examples(plan_of(), folder, ALL)
            return
        found = read_examples(plan_of(), folder, ALL)
    expected = [first[place] for place in sorted(labelled)]
    assert found.features.tolist() == features[expected].tolist()


def test_only_predictions_of_the_period(tmp_path: Path) -> None:
    """The period holds its first moment and not its last; when labels came does not matter."""
    write_examples(tmp_path, list("abc"), [10, 20, 30], np.zeros((3, 3)))
    write_outcomes(tmp_path, list("abc"), [10, 20, 30], [99] * 3, [True] * 3)
    assert read_examples(plan_of(), tmp_path, Period(20, 30)).keys.tolist() == ["b"]


def test_classes_in_the_order_of_their_labels(tmp_path: Path) -> None:
    """Places of classes follow the times of the labels; a label without a value is left out."""
    write_examples(tmp_path, list("abcd"), [10, 20, 30, 40], np.zeros((4, 3)))
    labels = ["late", "early", None, "late"]
    write_outcomes(tmp_path, list("abcd"), [10, 20, 30, 40], [90, 80, 70, 60], labels, "multiclass")
    found = read_examples(plan_of("multiclass"), tmp_path, ALL)
    assert found.classes == ("late", "early")
    assert found.labels.tolist() == [0.0, 1.0, 0.0]
    write_outcomes(tmp_path, list("ab"), [10, 20], [90, 80], ["x", "y"], "multiclass")
    assert read_examples(plan_of("multiclass"), tmp_path, ALL).classes == ("y", "x")


def test_the_digest_is_of_everything_learned(tmp_path: Path) -> None:
    """The same rows have the same digest; another value, label or time has another one."""
    digests = set()
    for feature, label, known_us in (
        (1.0, True, 20),
        (2.0, True, 20),
        (1.0, False, 20),
        (1.0, True, 21),
    ):
        write_examples(tmp_path, ["a"], [10], np.full((1, 3), feature))
        write_outcomes(tmp_path, ["a"], [10], [known_us], [label])
        found = read_examples(plan_of(), tmp_path, ALL).digest
        assert found == read_examples(plan_of(), tmp_path, ALL).digest
        digests.add(found)
    assert len(digests) == 4


def test_what_is_refused(tmp_path: Path) -> None:
    """No examples, examples of other definitions, and too many of them: each says what to do."""
    plan = plan_of()
    with pytest.raises(TrainingError, match="run the dataflow first"):
        read_examples(plan, tmp_path, ALL)
    write_examples(tmp_path, ["a", "b"], [10, 11], np.zeros((2, 2)))
    with pytest.raises(TrainingError, match=r"no column 'view__f2'.*headwater replay"):
        read_examples(plan, tmp_path, ALL)
    write_examples(tmp_path, ["a", "b"], [10, 11], np.zeros((2, 3)))
    write_outcomes(tmp_path, ["a", "b"], [10, 11], [20, 20], [True, True])
    with pytest.raises(TrainingError, match="no labelled examples in that time"):
        read_examples(plan, tmp_path, Period(from_us=START_US + HOUR_US))
    (tmp_path / "examples" / "1.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(TrainingError, match=r"cannot be read .* train again, else rebuild"):
        read_examples(plan, tmp_path, ALL)
    with pytest.raises(TrainingError, match="2 labelled examples, at most 1 fit"):
        read_examples(plan, tmp_path, ALL, rows_max=1)
