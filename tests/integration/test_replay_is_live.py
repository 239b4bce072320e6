"""What came in live, through kills and a cut over, is what a replay makes of the log."""

from __future__ import annotations

import random
import signal

import pytest

from tests.flow import shop
from tests.integration.commands import Command, wait_for
from tests.integration.conftest import NewShop
from tests.integration.load import Load
from tests.integration.real_shop import RealShop

pytestmark = pytest.mark.services
SECONDS = 8.0
KILLS = 3
# Who was killed takes a second to come back: that is no silence of its partitions.
LIVE = {
    "workers": 2,
    "epoch_seconds": 0.1,
    "idle_timeout_seconds": 30.0,
    "kafka_fetch_bytes": 4_000,
}
PARTS = ("online", "offline", "examples", "models")


def test_a_replay_gives_what_live_gave(new_shop: NewShop, records: list[shop.Record]) -> None:
    """Paced records, two workers, kills: rows, examples, versions and values are the same bytes."""
    rng = random.Random(3)
    made = new_shop(**LIVE)
    dataflow = made.start("run")
    with Load(made, records, SECONDS) as load:
        for kill in range(KILLS):
            _wait_for_events(made, dataflow, 40)
            _wait_until_sent(load, int(len(records) * (kill + rng.random()) / KILLS), dataflow)
            assert dataflow.kill() == -signal.SIGKILL
            dataflow = made.start("run")
        _wait_until_sent(load, len(records), dataflow)
    wait_for("its word", lambda: _is_said_by(made, dataflow), dataflow)
    assert dataflow.stop() == 0, dataflow.output
    made.run_to_end(idle_timeout_seconds=0.2)
    live = made.digests()
    replayed = made.start("replay", workers=1, idle_timeout_seconds=0.2)
    assert replayed.wait() == 0, replayed.output
    told = [line.split()[:3] for line in replayed.output.splitlines() if line.startswith(PARTS)]
    assert told == [[part, "as", "before"] for part in PARTS]
    assert made.digests() == live
    assert made.run_to_end() == {"events": 0, "bad": 0}


def test_a_replay_that_takes_over_gives_the_same(
    new_shop: NewShop, records: list[shop.Record]
) -> None:
    """Beside two workers, killed once on its way: what goes on from the cut is as if uncut."""
    made = new_shop(**LIVE)
    twin = new_shop(**LIVE)
    dataflow = made.start("run")
    with Load(made, records, SECONDS) as load:
        _wait_for_events(made, dataflow, 200)
        killed = made.start("replay")
        fresh = made.places.state.with_name(made.places.state.name + ".replay")
        wait_for("what it builds", (fresh / "shards").exists, killed)
        killed.kill()
        if dataflow.poll() is not None:  # the kill came after the fence
            dataflow = made.start("run")
        _wait_for_events(made, dataflow, 50)
        replaying = made.start("replay", "--live")
        assert "a replay takes over" in dataflow.refuse()
        wait_for("the cut", lambda: "took over" in replaying.output, replaying)
        load.join()
    assert replaying.stop() == 0, replaying.output
    made.run_to_end(idle_timeout_seconds=0.2)
    twin.produce(records)
    twin.run_to_end(idle_timeout_seconds=0.2)
    ours, theirs = made.digests(), twin.digests()
    # Each shop has topics of its own, whose names stand in its versions and evaluations.
    for name in ("models", "evaluation"):
        ours.pop(name, None)
        theirs.pop(name, None)
    assert ours == theirs


def _is_said_by(made: RealShop, dataflow: Command) -> bool:
    said = made.progress()
    return said is not None and said.pid == dataflow.pid and bool(said.partitions)


def _wait_until_sent(load: Load, count: int, dataflow: Command) -> None:
    wait_for("the moment", lambda: load.sent >= count, dataflow)


def _wait_for_events(made: RealShop, dataflow: Command, count: int) -> None:
    wait_for("events", lambda: made.events(dataflow) >= count, dataflow)
