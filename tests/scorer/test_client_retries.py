"""When the client tries again, how often, and how long it takes at most."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer.client import (
    AsyncScorerClient,
    ClientOptions,
    NotAllowedError,
    NotFoundError,
    NotReadyError,
    OutOfTimeError,
    Retries,
    ScorerCallError,
    ScorerClient,
    UnavailableError,
    WrongRequestError,
)
from scorer.client_retries import Tries
from tests.scorer.scripted import Script, scripted

Status = grpc.StatusCode
Ask = Callable[..., Any]
ROW = {"amount": 2.5}
QUICK = Retries(tries_max=4, first_pause_seconds=0.001)
SECONDS = st.floats(0, 100)


def blocking(address: str, deadline_seconds: float = 10.0, retries: Retries = QUICK) -> Any:
    """Score one row with the blocking client."""
    with ScorerClient(address, deadline_seconds, options=ClientOptions(retries)) as client:
        return client.score("m", ROW)


def awaited(address: str, deadline_seconds: float = 10.0, retries: Retries = QUICK) -> Any:
    """Score one row with asyncio's client."""

    async def run() -> Any:
        options = ClientOptions(retries)
        async with AsyncScorerClient(address, deadline_seconds, options=options) as client:
            return await client.score("m", ROW)

    return asyncio.run(run())


both = pytest.mark.parametrize("ask", [blocking, awaited])


@both
@pytest.mark.parametrize("code", [Status.UNAVAILABLE, Status.RESOURCE_EXHAUSTED])
def test_what_passes_is_tried_again(ask: Ask, code: grpc.StatusCode) -> None:
    """A scorer that is out or too busy for three tries is asked a fourth time, and answers."""
    script = Script([code] * 3)
    with scripted(script) as address:
        assert ask(address).score == 0.5
    assert len(script.came) == 4


@both
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Status.INVALID_ARGUMENT, WrongRequestError),
        (Status.UNAUTHENTICATED, NotAllowedError),
        (Status.PERMISSION_DENIED, NotAllowedError),
        (Status.NOT_FOUND, NotFoundError),
        (Status.FAILED_PRECONDITION, NotReadyError),
        (Status.DEADLINE_EXCEEDED, OutOfTimeError),
        (Status.INTERNAL, ScorerCallError),
        (Status.UNIMPLEMENTED, ScorerCallError),
    ],
)
def test_what_stays_is_not_tried_again(
    ask: Ask, code: grpc.StatusCode, kind: type[ScorerCallError]
) -> None:
    """What another try cannot mend is asked once, and is an error of its class."""
    script = Script([code])
    with scripted(script) as address, pytest.raises(ScorerCallError) as caught:
        ask(address)
    assert type(caught.value) is kind
    assert (caught.value.code(), caught.value.attempts) == (code, 1)
    assert str(caught.value) == f"{code.name}: failure 1"
    assert len(script.came) == 1


@both
def test_tries_have_a_bound(ask: Ask) -> None:
    """After the last try the error says how many there were, and what the last one said."""
    script = Script([Status.UNAVAILABLE] * 9)
    with scripted(script) as address, pytest.raises(UnavailableError) as caught:
        ask(address)
    assert caught.value.attempts == len(script.came) == 4
    assert str(caught.value) == "UNAVAILABLE: failure 4 (after 4 tries)"


@both
def test_the_deadline_is_for_all_tries_together(ask: Ask) -> None:
    """Each try may take what is left of the deadline, never more."""
    script = Script([Status.UNAVAILABLE] * 2)
    pauses = Retries(first_pause_seconds=1.0)
    with scripted(script) as address:
        ask(address, 5.0, pauses)
    # Each pause takes half a second at least; gRPC rounds what it sends up, by less than 0.2 here.
    first, second, third = (came.left_seconds or 99.0 for came in script.came)
    assert first < 5.02
    assert second < 4.7
    assert third < 4.2


@both
def test_a_pause_beyond_the_deadline_is_not_begun(ask: Ask) -> None:
    """When the next try would come too late, the error comes at once and not at the deadline."""
    script = Script([Status.UNAVAILABLE] * 9)
    hours = Retries(first_pause_seconds=3600.0, pause_seconds_max=3600.0)
    with scripted(script) as address, pytest.raises(UnavailableError) as caught:
        ask(address, 100.0, hours)
    assert caught.value.attempts == len(script.came) == 1


@both
def test_a_deadline_on_a_later_try_tells_the_cause(ask: Ask) -> None:
    """When time runs out on the second try, the error is that which made it necessary."""
    script = Script([Status.UNAVAILABLE, None])
    with scripted(script) as address, pytest.raises(UnavailableError) as caught:
        ask(address, 0.5)
    assert caught.value.message == "failure 1"
    assert caught.value.attempts == 2


@both
def test_a_deadline_passes(ask: Ask) -> None:
    """A scorer that says nothing is left at the deadline, and the scorer learns of it."""
    script = Script([None])
    with scripted(script) as address:
        with pytest.raises(OutOfTimeError) as caught:
            ask(address, 0.2)
        assert script.gone.wait(10)
    assert caught.value.attempts == 1


@both
def test_what_is_too_big_is_not_tried_again(ask: Ask) -> None:
    """A request over the server's limit has the code of overload, but is sent once."""
    small = [("grpc.max_receive_message_length", 5)]
    with scripted(Script(), options=small) as address, pytest.raises(UnavailableError) as caught:
        ask(address)
    assert caught.value.code() is Status.RESOURCE_EXHAUSTED
    assert caught.value.attempts == 1


@both
def test_nobody_listening_is_unavailable(ask: Ask) -> None:
    """An address without a scorer is UNAVAILABLE after all tries."""
    with scripted(Script()) as address:
        pass
    with pytest.raises(UnavailableError) as caught:
        ask(address)
    assert caught.value.attempts == 4
    assert "connect" in caught.value.message


@given(
    tries_max=st.integers(1, 50),
    first=SECONDS,
    over=SECONDS,
    deadline=st.floats(0.001, 1000),
    chance=st.floats(0, 1),
)
def test_tries_end_before_the_deadline(
    tries_max: int, first: float, over: float, deadline: float, chance: float
) -> None:
    """Whatever the policy, pauses are within their bounds and end before the deadline does."""
    now = 5.0
    retries = Retries(tries_max, first, first + over)
    tries = Tries(retries, deadline, clock=lambda: now, chance=lambda: chance)
    failure = ScorerCallError(Status.UNAVAILABLE, "no")
    pauses: list[float] = []

    def call() -> None:
        nonlocal now
        while True:
            pauses.append(tries.failed(failure))
            now += pauses[-1]

    with pytest.raises(UnavailableError) as caught:
        call()
    assert caught.value.attempts == len(pauses) + 1 <= tries_max
    assert sum(pauses) <= deadline
    for number, pause in enumerate(pauses):
        whole = min(first * 2**number, first + over)
        assert whole / 2 <= pause <= whole


@pytest.mark.parametrize(
    ("tries_max", "first", "longest"), [(0, 0.1, 1.0), (1, -0.1, 1.0), (1, 2.0, 1.0)]
)
def test_a_policy_that_cannot_be_is_refused(tries_max: int, first: float, longest: float) -> None:
    """No tries, pauses that go back in time, and a first pause over the longest are refused."""
    with pytest.raises(ValueError, match="give"):
        Retries(tries_max, first, longest)


def test_an_error_goes_from_process_to_process() -> None:
    """Errors can be pickled, as pools of processes do, and are caught as gRPC's own."""
    error = pickle.loads(pickle.dumps(ScorerCallError.of(Status.NOT_FOUND, "no model", 3)))
    assert isinstance(error, NotFoundError)
    assert isinstance(error, grpc.RpcError)
    assert (error.code(), error.details(), error.attempts) == (Status.NOT_FOUND, "no model", 3)
