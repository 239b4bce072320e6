"""Cells of columns: bounded in number, fit for atoms and for codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.drift.cells import (
    CELLS,
    EDGES_MAX,
    GROUPS_MAX,
    Cells,
    learn_nominal,
    learn_ordered,
)

SAMPLES = st.lists(
    st.one_of(st.integers(-3, 60).map(float), st.floats(allow_nan=False, allow_infinity=False)),
    max_size=300,
)


def _groups(cells: Cells) -> list[int]:
    return [int(group) for group in cells.groups[: 2 * len(cells.edges) + 1]]


@pytest.mark.parametrize("learn", [learn_ordered, learn_nominal])
@given(SAMPLES)
def test_whatever_the_sample_is(learn: type, sample: list[float]) -> None:
    """Edges ascend and are values of the sample, and all groups are used and numbered densely."""
    cells: Cells = learn(np.array(sample))
    assert len(cells.edges) <= EDGES_MAX
    assert (np.diff(cells.edges) > 0).all()
    assert set(cells.edges.tolist()) <= set(sample)
    assert cells.groups.shape == (CELLS,)
    assert set(_groups(cells)) <= set(range(cells.group_count))
    assert cells.group_count <= GROUPS_MAX


def test_smooth_values_make_equal_groups() -> None:
    """Ten groups with a tenth of the rows each, in order."""
    cells = learn_ordered(np.random.default_rng(1).normal(size=4_000))
    assert cells.group_count == 10
    assert _groups(cells) == sorted(_groups(cells))


def test_a_value_of_many_rows_is_a_group() -> None:
    """Of rows that are zero more often than not, the zeros are by themselves."""
    rng = np.random.default_rng(1)
    cells = learn_ordered(np.where(rng.random(4_000) < 0.6, 0.0, rng.normal(size=4_000)))
    place = cells.edges.tolist().index(0.0)
    groups = _groups(cells)
    assert groups.count(groups[2 * place + 1]) == 1


def test_few_values_leave_a_group_for_new_ones() -> None:
    """Between, below and above the values that were seen lies one group, the last."""
    cells = learn_ordered(np.array([1.0, 2.0, 2.0, 5.0]))
    assert cells.edges.tolist() == [1.0, 2.0, 5.0]
    assert _groups(cells) == [3, 0, 3, 1, 3, 2, 3]


def test_codes_are_grouped_by_how_frequent_they_are() -> None:
    """The nine most frequent codes stand alone, the other frequent ones together, then the rest."""
    frequent = [float(1_000 * code) for code in range(9) for _ in range(50 - code)]
    rare = [float(code) for code in range(1, 100)]
    cells = learn_nominal(np.array(frequent + rare + rare[:20]))
    groups = dict(zip(cells.edges.tolist(), _groups(cells)[1::2], strict=True))
    assert [groups[1_000.0 * code] for code in range(9)] == list(range(9))
    assert groups[1.0] == 9
    assert 99.0 not in groups
    assert cells.group_count == 11
    assert _groups(cells)[0] == 10
