"""What the monitor says of streams that stay, that change, and that change back."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.drift.monitor import DriftMonitor
from tests.drift import streams
from tests.drift.streams import (
    CONSTANT,
    FEW_CODES,
    NEVER,
    NORMAL,
    SOMETIMES,
    Floats,
    follow,
    make_rows,
    small_plan,
)

Change = Callable[[np.random.Generator, Floats], None]


def test_a_million_rows_that_stay_raise_no_alarm() -> None:
    """Twenty columns of all kinds, scores and errors at the default settings: never an alert."""
    rng = np.random.default_rng(2013)
    monitor = DriftMonitor(streams.spec(streams.plan()))
    chunk = make_rows(rng, 100_000)
    for number in range(20):
        # Rows drawn anew from ever other rows are as good as new ones, and made in no time.
        if number % 5 == 4:
            chunk = make_rows(rng, 100_000)
        rows = chunk[rng.permutation(100_000)[:50_000]]
        first = number * 50_000
        assert follow(monitor, first, rows, rng.beta(2, 5, 50_000)) == []
        failed = (rng.random(50_000) < 0.2).astype(np.float64)
        assert monitor.add_outcomes(streams.times_us(first, 50_000), failed) == []
    report = monitor.report()
    assert (report.rows, report.labels) == (1_000_000, 1_000_000)
    assert report.looks > 9_000
    assert report.rows_until_watched == report.labels_until_watched == 0
    assert all(figure.since_us is None for figure in report.figures)


@pytest.fixture(scope="module")
def watching() -> bytes:
    """A monitor at its default settings that has seen 40,000 rows, as ``dump`` gives it."""
    rng = np.random.default_rng(7)
    monitor = DriftMonitor(streams.spec(streams.plan()))
    assert follow(monitor, 0, make_rows(rng, 40_000), rng.beta(2, 5, 40_000)) == []
    return pickle.dumps(monitor.dump())


def _shift(rng: np.random.Generator, rows: Floats) -> None:
    rows[:, NORMAL] += 0.5


def _scale(rng: np.random.Generator, rows: Floats) -> None:
    rows[:, NORMAL] *= 2.0


def _miss(rng: np.random.Generator, rows: Floats) -> None:
    rows[:, SOMETIMES] = rng.normal(size=len(rows))
    rows[rng.random(len(rows)) < 0.1, SOMETIMES] = np.nan


def _new_category(rng: np.random.Generator, rows: Floats) -> None:
    rows[rng.random(len(rows)) < 0.1, FEW_CODES] = 777.0


def _another_constant(rng: np.random.Generator, rows: Floats) -> None:
    rows[:, CONSTANT] = 8.0


def _appear(rng: np.random.Generator, rows: Floats) -> None:
    rows[:, NEVER] = 1.0


@pytest.mark.parametrize(
    ("change", "kind", "column", "rows_max"),
    [
        (_shift, "ks", NORMAL, 1_000),
        (_scale, "psi", NORMAL, 1_000),
        (_miss, "missing", SOMETIMES, 1_000),
        (_new_category, "psi", FEW_CODES, 1_000),
        (_another_constant, "ks", CONSTANT, 300),
        (_appear, "missing", NEVER, 300),
    ],
)
def test_planted_drift_of_a_feature_is_found(
    watching: bytes, change: Change, kind: str, column: int, rows_max: int
) -> None:
    """It is found within so many rows, and nothing is said of any other feature."""
    rng = np.random.default_rng(11)
    monitor = DriftMonitor.load(streams.spec(streams.plan()), pickle.loads(watching))
    rows = make_rows(rng, rows_max)
    change(rng, rows)
    alerts = follow(monitor, 40_000, rows, rng.beta(2, 5, rows_max))
    assert {alert.feature for alert in alerts} == {f"f{column}"}
    (found,) = (alert for alert in alerts if alert.kind == kind)
    assert found.state == "begin"
    assert found.value >= found.threshold
    assert found.p_value < 1e-6
    assert found.window_from_us < 40_000 * 1_000_000 < found.window_until_us
    assert found.reference_until_us < found.window_from_us


def test_drift_of_scores_is_found(watching: bytes) -> None:
    """Scores that move by 0.14 on average are found within a window; features stay."""
    rng = np.random.default_rng(11)
    monitor = DriftMonitor.load(streams.spec(streams.plan()), pickle.loads(watching))
    alerts = follow(monitor, 40_000, make_rows(rng, 1_000), rng.beta(3, 4, 1_000))
    assert [(alert.kind, alert.feature) for alert in alerts] == [("score", "")]


def _one_column(settings: Any) -> DriftMonitor:
    return DriftMonitor(streams.spec(settings, features=1))


def _waves(rng: np.random.Generator, lengths: list[tuple[int, float]]) -> Floats:
    parts = [rng.normal(mean, size=(n, 1)) for n, mean in lengths]
    return np.concatenate(parts)


def test_one_alert_when_it_begins_and_one_when_it_ends() -> None:
    """However long drift lasts it is told twice, and a second drift is told again."""
    rng = np.random.default_rng(3)
    rows = _waves(rng, [(2_000, 0.0), (5_000, 3.0), (2_000, 0.0), (2_000, -3.0), (2_000, 0.0)])
    monitor = _one_column(small_plan(psi=None, score=None))
    alerts = follow(monitor, 0, rows, np.zeros(len(rows)))
    told = [(alert.state, alert.why, alert.window_until_us // 1_000_000) for alert in alerts]
    assert [(state, why) for state, why, _ in told] == [("begin", ""), ("end", "quiet")] * 2
    seconds = [second for *_, second in told]
    # A window without any sign of it, in tenths of a window, and what is left of it before.
    for second, truth in zip(seconds, [2_000, 7_000, 9_000, 11_000], strict=True):
        assert truth < second <= truth + 250


def test_a_pause_is_no_end() -> None:
    """Drift that is away for less than a window, and comes again, is one and the same."""
    rng = np.random.default_rng(3)
    rows = _waves(rng, [(2_000, 0.0), (500, 3.0), (100, 0.0), (500, 3.0), (100, 0.0), (500, 3.0)])
    monitor = _one_column(small_plan(psi=None, score=None))
    alerts = follow(monitor, 0, rows, np.zeros(len(rows)))
    assert [alert.state for alert in alerts] == ["begin"]


def test_columns_do_not_disturb_each_other() -> None:
    """Columns whose references are renewed at different times are what they are alone."""
    rng = np.random.default_rng(4)
    both = np.column_stack(
        (
            _waves(rng, [(1_000, 0.0), (1_500, 3.0), (1_500, 0.0)]),
            _waves(rng, [(1_060, 0.0), (1_500, 5.0), (1_440, 3.5)]),
        )
    )
    settings = small_plan(psi=None, score=None, missing=None, renew_after_rows=100)
    together = DriftMonitor(streams.spec(settings, features=2))
    found = follow(together, 0, both, np.zeros(len(both)))
    for column in (0, 1):
        alone = follow(_one_column(settings), 0, both[:, [column]], np.zeros(len(both)))
        assert len(alone) >= 3
        ours = [alert for alert in found if alert.feature == f"f{column}"]
        assert [(one.state, one.value, one.window_until_us) for one in ours] == [
            (one.state, one.value, one.window_until_us) for one in alone
        ]


def test_the_reference_is_renewed_on_demand() -> None:
    """Drift that lasts becomes the new reference: it ends so, and going back is drift."""
    rng = np.random.default_rng(4)
    rows = _waves(rng, [(2_000, 0.0), (2_000, 3.0), (1_000, 0.0)])
    monitor = _one_column(small_plan(psi=None, score=None, renew_after_rows=300))
    alerts = follow(monitor, 0, rows, np.zeros(len(rows)))
    assert [(alert.state, alert.why) for alert in alerts[:3]] == [
        ("begin", ""), ("end", "renewed"), ("begin", "")
    ]  # fmt: skip
    assert 4_000 * 1_000_000 < alerts[2].window_until_us < 4_200 * 1_000_000
    assert alerts[2].reference_from_us > alerts[1].window_until_us


def test_what_is_none_is_not_watched() -> None:
    """Of settings that are None there are neither alerts nor figures."""
    rng = np.random.default_rng(5)
    rows = _waves(rng, [(2_000, 0.0), (1_000, 3.0)])
    nothing = {"psi": None, "ks": None, "missing": None, "score": None, "error": None}
    monitor = _one_column(small_plan(**nothing))
    assert follow(monitor, 0, rows, rows[:, 0]) == []
    assert monitor.add_outcomes(streams.times_us(0, 3_000), rows[:, 0]) == []
    assert monitor.report().figures == ()
    assert monitor.report().rows_until_watched == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 400), max_size=8), st.integers(0, 3_000))
def test_how_rows_are_cut_changes_nothing(seed: int, sizes: list[int], saved_at: int) -> None:
    """Calls of any size, with the state saved and loaded in between, give the same alerts."""
    rng = np.random.default_rng(seed)
    rows = make_rows(rng, 3_000)[:, :6]
    rows[1_500:2_200, NORMAL] += 3.0
    scores = rng.random(3_000)
    scores[2_000:] **= 3
    spec = streams.spec(small_plan(renew_after_rows=200), features=6)
    whole, cut = DriftMonitor(spec), DriftMonitor(spec)
    expected = follow(whole, 0, rows, scores)
    found = follow(cut, 0, rows[:saved_at], scores[:saved_at], sizes)
    cut = DriftMonitor.load(spec, pickle.loads(pickle.dumps(cut.dump())))
    found += follow(cut, saved_at, rows[saved_at:], scores[saved_at:], sizes)
    assert found == expected
    assert expected
    assert cut.report() == whole.report()


def test_other_settings_begin_anew() -> None:
    """State of other settings is not gone on with."""
    rng = np.random.default_rng(6)
    monitor = _one_column(small_plan())
    follow(monitor, 0, rng.normal(size=(1_000, 1)), rng.random(1_000))
    same = DriftMonitor.load(streams.spec(small_plan(), 1), monitor.dump())
    assert same.report().rows == 1_000
    other = DriftMonitor.load(streams.spec(small_plan(ks=0.2), 1), monitor.dump())
    assert other.report().rows == 0


def test_rows_until_watched_counts_down() -> None:
    """It says after how many rows the first look comes: warm-up, reference and a window."""
    rng = np.random.default_rng(8)
    monitor = _one_column(small_plan(warmup_rows=250))
    whole = 250 + 500 + 100
    for done in range(0, whole, 50):
        assert monitor.report().rows_until_watched == whole - done
        assert monitor.report().looks == 0
        follow(monitor, done, rng.normal(size=(50, 1)), rng.random(50))
    assert (monitor.report().rows_until_watched, monitor.report().looks) == (0, 1)
