"""Kafka goes away under a replay: it waits for a bounded time, says so, and is gone on with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaAdminClient

from contracts.log import LogError
from dataflows.definitions.repository import load_repository
from dataflows.flow.target import Target, TargetOf
from dataflows.replay import placing
from dataflows.replay import replay as replaying
from dataflows.replay.job import Kind
from dataflows.replay.options import ReplayOptions
from dataflows.replay.places import fresh_places
from dataflows.replay.stretch import Stretch
from dataflows.sources.plan_log import PlanLog
from dataflows.stores.handover import journal_path
from tests.flow import shop
from tests.integration.commands import Command, wait_for
from tests.integration.conftest import NewShop
from tests.integration.real_shop import RealShop, run_on_files
from tests.replay.world import VISIT_SUMS
from tests.services.kafka import KafkaBroker

pytestmark = pytest.mark.services
GONE = "has not answered|did not answer"


class _Doing(Stretch):
    """Does something when a pass knows where it ends, and has read nothing yet."""

    def __init__(self, do: Callable[[], None]) -> None:
        super().__init__()
        self._do = do

    def noting(self, target_of: TargetOf) -> TargetOf:
        """As ``Stretch``."""
        noted = super().noting(target_of)

        def target(log: PlanLog) -> Target | None:
            found = noted(log)
            self._do()
            return found

        return target


def test_kafka_gone_in_a_pass_and_at_the_handover(
    new_shop: NewShop,
    records: list[shop.Record],
    new_kafka_broker: Callable[..., KafkaBroker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind the fence it ends with an error, and nothing has changed; it can be gone on with."""
    broker = new_kafka_broker()
    # Nobody is idle before all is there: what comes later must not be late by that.
    given = {"outage_seconds": 1.0, "kafka_timeout_seconds": 2.0, "idle_timeout_seconds": 60.0}
    made = new_shop(kafka=broker, **given)
    expected = run_on_files(made, records)
    first, rest = records[:-500], records[-500:]
    fence = made.settings.state_dir.with_name("state.fence.json")
    made.produce(first)

    def at_a_pass() -> None:
        if fence.exists():
            broker.kill()
        else:
            # Left for the next pass.
            made.produce([rest.pop(0) for _ in range(20)])

    dataflow = made.start("run", outage_seconds=60.0)
    wait_for("its word", lambda: _is_said_by(made, dataflow), dataflow)
    _is_given_up(made, ReplayOptions(), _Doing(at_a_pass))
    assert dataflow.wait() == 1
    assert "a replay takes over" in dataflow.output
    broker.start()
    made.produce(rest)
    made.run_to_end()
    assert made.digests() == expected.digests
    replayed = replaying.replay(made.repository, made.settings)
    assert replayed.before == replayed.after
    assert 0 < replayed.events <= 500
    # What it has read it says in a group of its own, beside that of the dataflow.
    groups = [f"headwater-{made.project}{suffix}" for suffix in ("", "-replay")]
    assert [_committed(made, group) for group in groups] == [expected.ends, expected.ends]
    assert made.digests() == expected.digests

    # A part is put together with the rest of the state where the log is open.
    handover_of = placing.handover_of

    def without_kafka(*given: Any) -> Any:
        broker.kill()
        return handover_of(*given)

    before, definitions = made.digests(), made.folder / "definitions.py"
    definitions.write_text(definitions.read_text() + VISIT_SUMS)
    part = ReplayOptions(views=("visit_sums",))
    with monkeypatch.context() as patched:
        patched.setattr(replaying, "handover_of", without_kafka)
        _is_given_up(made, part)
    assert made.digests() == before
    broker.start()
    resumed = replaying.replay(load_repository(made.folder), made.settings, part)
    assert (resumed.events, resumed.job.kind) == (0, Kind.GRAFT)
    assert made.digests() == before
    assert made.run_to_end() == {"events": 0, "bad": 0}


def _is_said_by(made: RealShop, dataflow: Command) -> bool:
    said = made.progress()
    return said is not None and said.pid == dataflow.pid and bool(said.partitions)


def _committed(made: RealShop, group: str) -> dict[tuple[str, int], int]:
    with closing(KafkaAdminClient(bootstrap_servers=made.servers)) as admin:
        found = admin.list_group_offsets([group])[group]
    prefix = f"{made.prefix}."
    return {
        (at.topic.removeprefix(prefix), at.partition): int(offset.offset)
        for at, offset in found.items()
    }


def _is_given_up(made: RealShop, options: ReplayOptions, stretch: Stretch | None = None) -> None:
    with pytest.raises(LogError, match=GONE):
        replaying.replay(load_repository(made.folder), made.settings, options, stretch)
    assert fresh_places(made.places).state.exists()
    assert not journal_path(made.settings.state_dir).exists()
