"""Drift of errors: ADWIN is River's, what is told of it is ours."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from river.drift import ADWIN

from dataflows.drift.error_watch import CLOCK, Change, ErrorWatch
from tests.drift import streams

Floats = NDArray[np.float64]


def _watch(**given: Any) -> ErrorWatch:
    return ErrorWatch(streams.plan(**{"warmup_rows": 0, "reference_rows": 5_000, **given}), 0.1)


def _failed(rng: np.random.Generator, *parts: tuple[int, float]) -> Floats:
    """0/1 errors: so many at such a rate, one part after the other."""
    return np.concatenate([(rng.random(n) < rate).astype(np.float64) for n, rate in parts])


def _told(changes: list[Change]) -> list[tuple[bool, str]]:
    return [(change.is_rise, change.why) for change in changes]


def _follow(watch: ErrorWatch, losses: Floats) -> list[Change]:
    return watch.add(streams.times_us(0, len(losses)), losses)


@pytest.mark.parametrize("seed", range(5))
def test_a_rise_from_20_to_35_percent(seed: int) -> None:
    """It is found within 1,000 losses, and the mean is told of the losses since."""
    losses = _failed(np.random.default_rng(seed), (20_000, 0.2), (1_000, 0.35))
    (change,) = _follow(_watch(), losses)
    assert _told([change]) == [(True, "")]
    assert 20_000 < change.at_us // 1_000_000 < 21_000
    assert change.mean == pytest.approx(0.35, abs=0.06)
    assert change.threshold == pytest.approx(0.22, abs=0.04)
    assert change.from_us // 1_000_000 > 19_000
    assert change.reference_rows == 5_000
    assert change.reference_us == (0, 4_999 * 1_000_000)


def test_adwin_is_rivers() -> None:
    """The first change is told at the very loss at which River's ADWIN sees one."""
    losses = _failed(np.random.default_rng(9), (6_000, 0.2), (2_000, 0.5))
    watch = _watch()
    make: Any = ADWIN
    adwin = make(delta=watch.delta, clock=CLOCK)
    seen = 0
    while not adwin.drift_detected:
        adwin.update(losses[seen])
        seen += 1
    (change, *_) = _follow(watch, losses)
    assert change.at_us == (seen - 1) * 1_000_000


def test_heavy_tails_raise_no_alarm() -> None:
    """Errors that have no variance (Pareto) raise no alarm; twice as large ones do."""
    rng = np.random.default_rng(1)
    watch = _watch()
    assert _follow(watch, rng.pareto(1.1, 200_000)) == []
    (change,) = _follow(watch, 2 * rng.pareto(1.1, 2_000))
    assert change.is_rise


def test_one_rise_and_one_end() -> None:
    """A rise in steps is told once, and its end when the mean is back."""
    rng = np.random.default_rng(2)
    watch = _watch()
    rise = _failed(rng, (5_000, 0.2), (3_000, 0.35), (3_000, 0.6), (3_000, 0.4))
    assert _told(_follow(watch, rise)) == [(True, "")]
    assert watch.since_us is not None
    (end,) = _follow(watch, _failed(rng, (3_000, 0.2)))
    assert _told([end]) == [(False, "quiet")]
    assert end.mean == pytest.approx(0.2, abs=0.06)
    assert watch.since_us is None


@pytest.mark.parametrize("seed", [6, 7, 8])
def test_the_end_is_never_missed(seed: int) -> None:
    """Where ADWIN sees the way back too early to say how far it went, later losses tell."""
    losses = _failed(np.random.default_rng(seed), (5_000, 0.2), (1_500, 0.3), (3_000, 0.2))
    assert _told(_follow(_watch(), losses)) == [(True, ""), (False, "quiet")]


def test_an_end_is_told_as_soon_as_it_is_certain() -> None:
    """Errors that become fewer than ever end it within some hundred losses."""
    watch = _watch()
    losses = _failed(np.random.default_rng(6), (5_000, 0.2), (1_000, 0.8), (400, 0.1))
    assert _told(_follow(watch, losses)) == [(True, ""), (False, "quiet")]


def test_what_gets_better_is_no_drift_but_the_norm() -> None:
    """Fewer errors are not told, and, once they lasted, going back to as many as before is."""
    rng = np.random.default_rng(3)
    watch = _watch()
    assert _follow(watch, _failed(rng, (5_000, 0.4), (6_000, 0.2))) == []
    assert watch.threshold == pytest.approx(0.22, abs=0.03)
    assert _told(_follow(watch, _failed(rng, (5_000, 0.4)))) == [(True, "")]


def test_good_days_are_no_norm() -> None:
    """Fewer errors for a shorter time than the reference are not what is compared with."""
    rng = np.random.default_rng(3)
    watch = _watch()
    spells = [(3_000, rate) for _ in range(4) for rate in (0.2, 0.4)]
    assert _follow(watch, _failed(rng, (5_000, 0.4), *spells)) == []
    assert watch.threshold == pytest.approx(0.44, abs=0.03)


def test_too_small_a_rise() -> None:
    """A rise that is certain but smaller than the setting is not told."""
    losses = _failed(np.random.default_rng(4), (100_000, 0.5), (100_000, 0.53))
    assert _follow(_watch(reference_rows=100_000), losses) == []


def test_renewed() -> None:
    """A rise that lasts becomes the norm, if so is asked for."""
    rng = np.random.default_rng(5)
    watch = _watch(renew_after_rows=2_000)
    losses = _failed(rng, (5_000, 0.2), (20_000, 0.4))
    assert _told(_follow(watch, losses)) == [(True, ""), (False, "renewed")]
    assert watch.threshold == pytest.approx(0.44, abs=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4_000))
def test_how_losses_are_cut_changes_nothing(seed: int, at: int) -> None:
    """Two calls, with a copy of the watch between them, say what one does; NaN is left out."""
    losses = _failed(np.random.default_rng(seed), (2_500, 0.1), (1_500, 0.8))
    losses[::7] = np.nan
    times_us = streams.times_us(0, len(losses))
    whole, cut = _watch(reference_rows=1_000), _watch(reference_rows=1_000)
    expected = whole.add(times_us, losses)
    found = cut.add(times_us[:at], losses[:at])
    cut = copy.deepcopy(cut)
    found += cut.add(times_us[at:], losses[at:])
    assert found == expected
    assert expected
    assert (cut.seen, cut.mean, cut.threshold) == (whole.seen, whole.mean, whole.threshold)


def test_a_model_without_errors() -> None:
    """Where all losses are zero at first, the first that are not are a rise."""
    watch = _watch()
    losses = np.concatenate((np.zeros(2_000), np.ones(500)))
    assert watch.until_watched == 1_000
    assert _told(_follow(watch, losses)) == [(True, "")]
