"""Processes that hang are ended, and say where: in a function, or because they were stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from scorer.client import ONE_TRY, ClientOptions, ScorerClient, UnavailableError
from scorer.heartbeat import Pulse
from tests.scorer.shop import MODEL, Shop
from tests.scorer.test_on_demand import DEMANDED, INPUTS, PER_ITEM, publish
from tests.scorer.test_processes import children, scores, until
from tests.scorer.test_server import scorer_process

SECONDS_MAX = 60.0
POISON = """
def per_item(inputs):
    while 13.0 in inputs['amount']:
        pass
    return {'rate': list(inputs['amount']), 'length': [1] * len(inputs['amount'])}
"""
LOOPING = replace(DEMANDED, on_demand=(replace(PER_ITEM, code=POISON),))


@contextmanager
def heard() -> Iterator[tuple[int, Pulse]]:
    """A pipe to beat into, and what is heard of it: 60 s to start, then 3 s, looks of 1 s."""
    read, write = os.pipe()
    try:
        yield write, Pulse(read, start_seconds_max=60, silence_seconds_max=3, look_seconds_max=1)
    finally:
        os.close(read)
        os.close(write)


def test_silence_is_told_once_it_lasts() -> None:
    """A pulse is lost after its time without a beat, and told so again only after as long."""
    with heard() as (pipe, pulse):
        os.write(pipe, b"\0")
        lost = [pulse.is_lost(second / 2) for second in range(15)]
        assert [number for number, is_lost in enumerate(lost) if is_lost] == [7, 14]
        os.write(pipe, b"\0")
        assert not any(pulse.is_lost(8 + second / 2) for second in range(6))


def test_a_start_may_take_longer_and_prints_are_no_beats() -> None:
    """Before the first beat another limit holds, and what a function prints is not one."""
    with heard() as (pipe, pulse):
        os.write(pipe, b"serving on 127.0.0.1:50051\n")
        assert not any(pulse.is_lost(second) for second in range(61))
        os.write(pipe, b"a print\n")
        assert pulse.is_lost(61)


def test_whoever_was_stopped_too_counts_no_silence() -> None:
    """If nobody looked for an hour, because all were stopped, nothing is lost yet."""
    with heard() as (pipe, pulse):
        os.write(pipe, b"\0")
        assert not pulse.is_lost(0.0)
        assert not pulse.is_lost(3_600.0)
        os.write(pipe, b"\0")
        assert not pulse.is_lost(7_200.0)


def test_a_function_that_never_returns_ends_its_process(scorer_shop: Shop) -> None:
    """The process ends by itself, with an exit code for whoever starts it again, and says where."""
    publish(scorer_shop, "2", LOOPING)
    options = ClientOptions(retries=ONE_TRY)
    with scorer_process(scorer_shop, HEADWATER_STUCK_SECONDS="3") as (process, address):
        with ScorerClient(address, SECONDS_MAX, options=options) as client:
            assert client.score(MODEL, [INPUTS]).version == "2"
            with pytest.raises(UnavailableError):
                client.score(MODEL, [{**INPUTS, "amount": 13.0}])
        assert process.wait(SECONDS_MAX) == 1
        assert process.stderr is not None
        assert "in per_item" in process.stderr.read()


def test_a_stopped_process_is_replaced(scorer_shop: Shop) -> None:
    """One of several that hangs, and cannot even end by itself, is killed; another takes over."""
    settings = {"HEADWATER_SCORER_PROCESSES": "2", "HEADWATER_STUCK_SECONDS": "3"}
    with scorer_process(scorer_shop, **settings) as (process, address):
        victim = min(children(process.pid))
        os.kill(victim, signal.SIGSTOP)
        try:
            until(lambda: victim not in children(process.pid), "the stopped process was not ended")
        finally:
            # Else it holds the pipe of the one that started it, whose end would be waited for.
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        until(lambda: len(children(process.pid)) == 2, "nothing came in its place")
        scores(address, 4)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS_MAX) == 0
