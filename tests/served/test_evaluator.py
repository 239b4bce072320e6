"""The evaluator on a log of files: what it shows, decides, and survives."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contracts.evaluation_file import evaluation_file, read_evaluation
from contracts.file_log import ensure_topic
from dataflows.served import healthcheck
from dataflows.served.state import EvaluatorError, evaluator_folder
from tests.served import dying
from tests.served.world import (
    BEGIN_US,
    BINARY,
    HOUR_US,
    MODEL,
    SECOND_US,
    World,
    label,
    plan_of,
    record,
    with_rollout,
)

# Small pieces, so that there are many looks.
PIECES = {"batch_bytes": 12_000}


def _traffic(
    world: World, rows: int, *, is_bad: bool = False, labels: bool = True, bad_from: int = 10**9
) -> None:
    """Rows that champion 1 and challenger 2 scored, and their labels; 2 may turn bad at a row."""
    rng = random.Random(rows)
    scored, known = [], []
    for number in range(rows):
        name, at_us = f"o{number}", BEGIN_US + number * SECOND_US
        truth = rng.random() < 0.3
        first = min(max(0.3 + (0.3 if truth else -0.1) + rng.gauss(0, 0.1), 0.02), 0.98)
        second = (
            1 - first
            if is_bad or number >= bad_from
            else min(max(first + rng.gauss(0, 0.02), 0.02), 0.98)
        )
        scored.append(record(name, "1", first, at_us))
        scored.append(record(name, "2", second, at_us, answered=False))
        known.append(label(name, 5.0 if truth else 1.0, at_us + 60 * SECOND_US))
    world.write("predictions", scored)
    if labels:
        world.write("outcomes", known)


def _served(world: World) -> dict[str, Any]:
    found = read_evaluation(evaluation_file(world.repository.root, MODEL, "served"))
    assert found is not None
    return found


def _audit(world: World) -> list[dict[str, Any]]:
    """The audit without the times of the wall clock."""
    return [{**asdict(e), "at_us": 0} for e in world.repository.audit(MODEL)]


def _left(world: World) -> tuple[Any, ...]:
    return _served(world), world.repository.channels(MODEL), _audit(world)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A champion, and a version that nobody tried."""
    dying.without_disk(monkeypatch.setattr)
    one = World(tmp_path)
    one.publish("1", "2")
    ensure_topic(tmp_path / "log", "outcomes")
    return one


def test_a_good_challenger_is_promoted_step_by_step(world: World) -> None:
    """Set, weighed and promoted; what was served and what only the log saw are told apart."""
    _traffic(world, 400)
    lines = dying.run(world.folder, plan_of(), PIECES, until_end=True)
    assert [entry["action"] for entry in _audit(world)][1:] == ["set", "weigh", "promote"]
    assert world.repository.channels(MODEL).champion == "2"
    assert len(lines) == 3
    served = _served(world)
    assert list(served["versions"]) == ["1"]
    assert list(served["unanswered"]["versions"]) == ["2"]
    assert served["versions"]["1"]["all"]["outcomes"] == 400
    assert served["counts"]["joined"] == 800


def test_a_bad_challenger_is_rolled_back_with_everything_told(world: World) -> None:
    """Who, what, when, why and the figures are in the audit file."""
    _traffic(world, 300, is_bad=True)
    begin_us = time.time_ns() // 1000
    dying.run(world.folder, plan_of(), PIECES, until_end=True)
    channels, last = world.repository.channels(MODEL), world.repository.audit(MODEL)[-1]
    assert (channels.champion, channels.challenger, channels.challenger_share) == ("1", None, 0.0)
    assert (last.actor, last.action, last.previous) == ("evaluator", "rollback", "2")
    assert begin_us <= last.at_us <= time.time_ns() // 1000
    assert "worse than 1" in last.reason
    assert last.figures["labels"] <= 500
    assert last.figures["challenger_loss"] > last.figures["champion_loss"]
    assert last.figures["share_before"] == 0.1


def test_a_champion_that_turns_bad_soon_is_rolled_back(world: World) -> None:
    """Promoted, it is held against the champion before for a while, who answers again then."""
    _traffic(world, 400, bad_from=250)
    plan = plan_of(with_rollout(probation_labels=1_000))
    lines = dying.run(world.folder, plan, PIECES, until_end=True)
    actions = [entry["action"] for entry in _audit(world)][1:]
    assert actions == ["set", "weigh", "promote", "rollback"]
    channels, last = world.repository.channels(MODEL), world.repository.audit(MODEL)[-1]
    assert (channels.champion, channels.challenger, channels.challenger_share) == ("1", None, 0.0)
    assert (last.actor, last.version, last.previous) == ("evaluator", "1", "2")
    assert last.figures["labels"] <= 500
    assert last.figures["champion_loss"] > last.figures["challenger_loss"]
    assert "version 2 is worse than 1" in lines[-1]


def test_a_rollout_taken_out_of_the_definitions_is_over(world: World) -> None:
    """Who has no rollout any more gives its share back, with the reason; a person's stays."""
    _traffic(world, 60)
    dying.run(world.folder, plan_of(), PIECES, until_end=True)
    assert world.repository.channels(MODEL).challenger_share == 0.1
    # The champion goes on to follow the dataflow meanwhile.
    world.publish("3")
    world.repository.set_channel(MODEL, "champion", "3", "learned", "dataflow", 2)
    plain = plan_of(replace(BINARY, rollout=None))
    (line,) = dying.run(world.folder, plain, PIECES, until_end=True)
    channels, last = world.repository.channels(MODEL), world.repository.audit(MODEL)[-1]
    assert (channels.champion, channels.challenger, channels.challenger_share) == ("3", None, 0.0)
    assert (last.actor, last.action, last.previous) == ("evaluator", "rollback", "2")
    assert "no rollout in its definitions any more" in last.reason
    assert last.reason in line
    world.repository.set_challenger(MODEL, "2", 0.3, "s", "try it", "ada", 3)
    assert dying.run(world.folder, plain, PIECES, until_end=True) == []
    assert world.repository.channels(MODEL).challenger_share == 0.3


def test_a_challenger_that_a_person_took_on_stays(world: World) -> None:
    """After a person's change of the champion nothing is taken back, rollout or not."""
    _traffic(world, 60)
    dying.run(world.folder, plan_of(), PIECES, until_end=True)
    world.publish("3")
    world.repository.promote(MODEL, "3", "better", "ada", 2)
    assert (
        dying.run(world.folder, plan_of(replace(BINARY, rollout=None)), PIECES, until_end=True)
        == []
    )
    assert world.repository.channels(MODEL).challenger == "2"


def test_another_interval_of_publishing_is_named(world: World) -> None:
    """Figures that cannot go on begin anew, and the line says which definition changed."""
    _traffic(world, 20)
    dying.run(world.folder, plan_of(), PIECES, until_end=True)
    other = plan_of(replace(BINARY, publish_every_us=2 * HOUR_US))
    (line,) = dying.run(world.folder, other, PIECES, until_end=True)
    assert line.startswith(f"{MODEL}: its served figures begin anew")
    assert "another publish_every" in line
    assert "replay" not in line


@pytest.mark.parametrize("is_bad", [False, True])
def test_killed_at_any_write_nothing_is_done_twice(world: World, *, is_bad: bool) -> None:
    """Before any write, which is after the one before: in the end all is as without a kill."""
    plan = plan_of(with_rollout(labels_per_step=30))
    _traffic(world, 100, is_bad=is_bad)
    calm = World(world.folder / "calm")
    calm.publish("1", "2")
    # In large pieces, and saved after each.
    given: dict[str, Any] = {"batch_bytes": 20_000, "log_url": (world.folder / "log").as_uri()}
    given["evaluate_seconds"] = 1e-9
    dying.run(calm.folder, plan, given, until_end=True)
    expected = _left(calm)
    assert expected[2][-1]["action"] == ("rollback" if is_bad else "promote")
    context = dying.processes()
    for write in range(0, 100, 2 if is_bad else 1):
        each = World(world.folder / f"{write}")
        each.publish("1", "2")
        arguments = (each.folder, plan, given, write)
        process = context.Process(target=dying.run_and_die, args=arguments)
        process.start()
        process.join(dying.SECONDS_MAX)
        assert process.exitcode in (0, -signal.SIGKILL)
        dying.run(each.folder, plan, given, until_end=True)
        assert _left(each) == expected, write
        if process.exitcode == 0:
            break
    assert 10 < write < 99


def test_killed_at_any_time_while_the_log_grows(world: World) -> None:
    """Live, with kills in between, the figures in the end are those of one quiet run."""
    plan = plan_of(replace(BINARY, rollout=None))
    context = dying.processes()
    rng = random.Random(3)
    for part in range(6):
        process = context.Process(
            target=dying.run, args=(world.folder, plan, {}), kwargs={"until_end": False}
        )
        process.start()
        rows = [f"{part}-{i}" for i in range(60)]
        at_us = BEGIN_US + part * 100 * SECOND_US
        scores = {name: rng.random() for name in rows}
        world.write("predictions", [record(n, "1", scores[n], at_us) for n in rows[:30]])
        world.write("outcomes", [label(n, rng.random() * 6, at_us + 5) for n in rows])
        world.write("predictions", [record(n, "1", scores[n], at_us) for n in rows[30:]])
        seen = part * 60 + rng.randrange(1, 60)
        _until(partial(_has_joined, world, seen))
        process.kill()
        process.join(dying.SECONDS_MAX)
    dying.run(world.folder, plan, {}, until_end=True)
    calm = World(world.folder / "calm")
    calm.publish("1", "2")
    dying.run(calm.folder, plan, {"log_url": (world.folder / "log").as_uri()}, until_end=True)
    assert _served(world) == _served(calm)
    assert _counted(world, "joined") == 360


def test_a_signal_ends_it_with_its_state(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked to stop it saves what it knows and exits with 0; another run goes on from there."""
    monkeypatch.setenv("HEADWATER_STATE_DIR", str(world.folder / "state"))
    assert healthcheck.main([str(world.folder)]) == 1
    _traffic(world, 30, labels=False)
    arguments = (world.folder, plan_of())
    process = dying.processes().Process(target=dying.run_until_signal, args=arguments)
    process.start()
    _until(lambda: _counted(world, "waiting") == 60)
    assert healthcheck.main([str(world.folder)]) == 0
    with pytest.raises(EvaluatorError, match="another evaluator is running"):
        dying.run(world.folder, plan_of(), {}, until_end=True)
    process.terminate()
    process.join(dying.SECONDS_MAX)
    assert process.exitcode == 0
    assert healthcheck.main([str(world.folder)]) == 1
    assert healthcheck.main([]) == 2
    known = [label(f"o{i}", 5.0, BEGIN_US + HOUR_US) for i in range(30)]
    world.write("outcomes", known)
    dying.run(world.folder, plan_of(), {}, until_end=True)
    assert (_counted(world, "waiting"), _counted(world, "joined")) == (0, 60)


def test_what_is_of_no_use_is_counted(world: World) -> None:
    """Broken, repeated, foreign and outdated records stop nothing."""
    good = record("a", "1", 0.5)
    other = json.loads(record("b", "1", 0.5))
    lines = [
        good,
        good,
        b"no json",
        b'{"model": "fraud"}',
        b"\xff",
        json.dumps({**other, "model": "nobody"}).encode(),
        json.dumps({**other, "fingerprint": "0" * 64}).encode(),
        json.dumps({**other, "rows": other["rows"] * 2, "request_id": "x"}).encode(),
        record("c", "1", None),
        record("", "1", 0.25).replace(b'"r-"', b'"d"'),
    ]
    world.write("predictions", lines)
    times = dict.fromkeys("abcd", BEGIN_US + SECOND_US)
    world.write("outcomes", [label(n, 1.0, at_us) for n, at_us in times.items()])
    world.write("outcomes", [b"{", label("a", 1.0, times["a"]), label("e", None, times["a"])])
    dying.run(world.folder, plan_of(), {}, until_end=True)
    counts = _served(world)["counts"]
    assert counts["other_schema"] == 1
    assert (counts["rows"], counts["joined"], counts["labels"]) == (5, 5, 6)
    assert (counts["repeated_labels"], counts["ignored_labels"]) == (1, 1)
    figures = _served(world)["versions"]["1"]["all"]
    # The one whose score is no number, which is counted and no more.
    assert (figures["outcomes"], figures["unusable"]) == (4, 1)
    # A later run knows what the one before has seen.
    world.write("predictions", [good, lines[-1]])
    dying.run(world.folder, plan_of(), {}, until_end=True)
    assert _counted(world, "rows") == 5


def test_silence_is_a_label_where_the_model_says_so(world: World) -> None:
    """Rows whose time is over count as what silence means, or as given up."""
    world.write("predictions", [record(f"o{i}", "1", 0.25) for i in range(10)])
    world.write("outcomes", [label("else", 1.0, BEGIN_US + HOUR_US + 2)])
    dying.run(world.folder, plan_of(), {}, until_end=True)
    assert (_counted(world, "unlabelled"), _counted(world, "joined")) == (10, 0)
    other = World(world.folder / "other")
    other.publish("1")
    log = {"log_url": (world.folder / "log").as_uri()}
    dying.run(other.folder, plan_of(replace(BINARY, on_timeout="0.0")), log, until_end=True)
    assert (_counted(other, "unlabelled"), _counted(other, "given")) == (0, 10)
    assert _served(other)["versions"]["1"]["all"]["accuracy"] == 1.0


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_other_tasks(world: World, task: Any) -> None:
    """Numbers and classes are joined and evaluated as well, by segment too."""
    value = "days" if task == "regression" else "kind"
    model = replace(BINARY, task=task, label_value=value, segments=("shop",), rollout=None)
    more: dict[str, Any] = {"label": "red", "probabilities": [0.25, 0.75]}
    if task == "regression":
        more = {}
    for number in range(8):
        name = f"o{number}"
        world.write("predictions", [record(name, "1", 0.75, **more)])
        kind = "red" if number % 4 else "blue"
        world.write("outcomes", [label(name, 1.75, BEGIN_US + 1, kind)])
    dying.run(world.folder, plan_of(model), {}, until_end=True)
    slice_ = _served(world)["versions"]["1"]
    for figures in (slice_["all"], slice_["segments"]["shop"]["Ulm"]):
        assert figures["outcomes"] == 8
        if task == "regression":
            assert figures["mae"] == pytest.approx(1.0)
        else:
            assert figures["accuracy"] == pytest.approx(0.75)


def test_state_of_another_log_is_refused(world: World) -> None:
    """State that cannot be read, or that other offsets belong to, is told in one line."""
    _traffic(world, 3)
    dying.run(world.folder, plan_of(), {}, until_end=True)
    state = evaluator_folder(world.folder / "state") / "state"
    data = state.read_bytes()
    state.write_bytes(data[:-20])
    with pytest.raises(EvaluatorError, match="remove it"):
        dying.run(world.folder, plan_of(), {}, until_end=True)
    state.unlink()
    dying.run(world.folder, plan_of(), {}, until_end=True)
    with pytest.raises(EvaluatorError, match="HEADWATER_PREDICTION_TOPIC is none"):
        dying.run(world.folder, plan_of(), {"prediction_topic": "none"}, until_end=True)
    with pytest.raises(EvaluatorError, match="topic of its own"):
        dying.run(world.folder, plan_of(), {"prediction_topic": "outcomes"}, until_end=True)


def _counted(world: World, name: str) -> int:
    """A count that is shown; 0 before anything is."""
    found = read_evaluation(evaluation_file(world.repository.root, MODEL, "served"))
    return 0 if found is None else int(found["counts"][name])


def _has_joined(world: World, rows: int) -> bool:
    return _counted(world, "joined") >= rows


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + dying.SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
