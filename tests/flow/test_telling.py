"""Telling of progress while the flow goes on."""

from __future__ import annotations

import threading

import pytest

from dataflows.flow.telling import Telling


def test_whoever_asks_does_not_wait() -> None:
    """Those who ask while it is being told are told of once, all together."""
    told: list[int] = []
    is_telling, go_on = threading.Event(), threading.Event()

    def tell() -> None:
        told.append(len(told))
        is_telling.set()
        assert go_on.wait(20.0)

    telling = Telling(tell, 0.001)
    telling.ask()
    assert is_telling.wait(20.0)
    for _ in range(10):
        telling.ask()
    go_on.set()
    telling.close()
    assert told == [0, 1]


def test_the_end_does_not_wait_for_the_pause() -> None:
    """What was asked for last is told before the end, however long the pause."""
    told: list[int] = []
    first = threading.Event()

    def tell() -> None:
        told.append(len(told))
        first.set()

    telling = Telling(tell, 3_600.0)
    telling.ask()
    assert first.wait(20.0)
    telling.ask()
    telling.close()
    assert told == [0, 1]


def test_nothing_asked_nothing_told() -> None:
    """The end alone is no reason to tell."""
    told: list[int] = []
    Telling(lambda: told.append(1), 0.001).close()
    assert told == []


def test_what_goes_wrong_is_raised_by_the_next_call() -> None:
    """A disk that is full ends the flow, though another thread has met it."""

    def tell() -> None:
        raise OSError("no room")

    telling = Telling(tell, 0.001)
    telling.ask()
    with pytest.raises(OSError, match="no room"):
        telling.close()
    with pytest.raises(OSError, match="no room"):
        telling.ask()
