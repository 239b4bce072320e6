"""Shares of challengers, and decisions that are made once."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

import contracts.model_decisions
from contracts.model_channels import AuditEntry, Channels, Decision
from contracts.model_repository import (
    CorruptChannelsError,
    ModelRepository,
    NoPreviousChampionError,
    ShareError,
    VersionNotFoundError,
)
from tests.served.world import MODEL, World

EMPTY: dict[str, float] = {}


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    """Three versions, the first of which serves."""
    world = World(tmp_path)
    world.publish("1", "2", "3")
    return world.repository


def _decision(expected: Channels, new: Channels, at_us: int = 9) -> Decision:
    return Decision("set", expected, new, "why", "evaluator", at_us, {"labels": 3.0})


def test_a_share_needs_a_challenger(repository: ModelRepository) -> None:
    """Without one, and beyond 0 to 1, it is refused and nothing changes."""
    with pytest.raises(ShareError, match="no challenger"):
        repository.set_share(MODEL, 0.5, None, "r", "ann", 5)
    repository.set_challenger(MODEL, "2", 0.5, "s", "r", "ann", 5)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ShareError, match="from 0 to 1"):
            repository.set_share(MODEL, share, None, "r", "ann", 6)
    assert repository.channels(MODEL) == Channels("1", "2", None, {"challenger": 0.5}, "s")


def test_shares_are_told_in_the_audit(repository: ModelRepository) -> None:
    """With what they are from then on, and figures; the same share again is no change."""
    repository.set_challenger(MODEL, "2", 0.1, "s", "try", "ann", 5)
    repository.set_share(MODEL, 0.2, None, "fine", "ann", 6, {"labels": 300.0})
    repository.set_share(MODEL, 0.2, None, "fine", "ann", 7)
    repository.set_share(MODEL, 0.2, "other", "others", "ann", 8)
    assert repository.audit(MODEL)[1:] == [
        AuditEntry(5, "set", "challenger", "2", None, "try", "ann", 0.1, EMPTY),
        AuditEntry(6, "weigh", "challenger", "2", "2", "fine", "ann", 0.2, {"labels": 300.0}),
        AuditEntry(8, "weigh", "challenger", "2", "2", "others", "ann", None, EMPTY),
    ]
    assert repository.channels(MODEL).salt == "other"


def test_a_new_challenger_begins_without_a_share(repository: ModelRepository) -> None:
    """What another one had earned is not its own."""
    repository.set_challenger(MODEL, "2", 0.5, "s", "try", "ann", 5)
    repository.set_channel(MODEL, "challenger", "3", "other", "ann", 6)
    assert repository.channels(MODEL).challenger_share == 0.0
    assert repository.audit(MODEL)[-1].share == 0.0


def test_who_is_promoted_is_challenger_no_longer(repository: ModelRepository) -> None:
    """Its channel is empty then; a challenger stays where another version is promoted."""
    repository.set_challenger(MODEL, "2", 0.5, "s", "try", "ann", 5)
    repository.promote(MODEL, "3", "else", "ann", 6)
    assert repository.channels(MODEL) == Channels("3", "2", None, {"challenger": 0.5}, "s")
    repository.promote(MODEL, "2", "won", "ann", 7, {"labels": 900.0})
    assert repository.channels(MODEL) == Channels("2", None, None, {}, "s")
    last = repository.audit(MODEL)[-1]
    assert (last.channel, last.version, last.share, last.figures) == (
        "champion",
        "2",
        0.0,
        {"labels": 900.0},
    )
    assert repository.rollback(MODEL, "worse", "ann", 8) == "3"


def test_a_rollback_takes_the_challengers_share(repository: ModelRepository) -> None:
    """All requests go to the champion, in the same step."""
    repository.promote(MODEL, "2", "new", "ann", 5)
    repository.set_challenger(MODEL, "3", 0.5, "s", "try", "ann", 6)
    repository.rollback(MODEL, "worse", "ann", 7)
    assert repository.channels(MODEL) == Channels("1", "3", None, {}, "s")
    assert repository.audit(MODEL)[-1].share == 0.0
    with pytest.raises(NoPreviousChampionError):
        repository.rollback(MODEL, "worse", "ann", 8)


def test_a_challenger_that_is_withdrawn_leaves_its_channel(repository: ModelRepository) -> None:
    """The dataflow takes versions back that it will learn again: nobody is to score with them."""
    repository.set_challenger(MODEL, "3", 0.5, "s", "try", "ann", 6)
    repository.withdraw_after(MODEL, 2, "resumed", "test", 7)
    assert repository.channels(MODEL) == Channels("1", None, None, {}, "s")


def test_each_channel_that_changes_with_a_withdrawal_is_told(repository: ModelRepository) -> None:
    """The audit file has an entry for the champion, for the challenger, and for the shadow."""
    repository.promote(MODEL, "3", "new", "ann", 5)
    repository.set_challenger(MODEL, "2", 0.5, "s", "try", "ann", 6)
    repository.set_channel(MODEL, "shadow", "2", "watch", "ann", 7)
    repository.withdraw_after(MODEL, 1, "resumed", "test", 8)
    assert repository.channels(MODEL) == Channels("1", None, None, {}, "s")
    told = [(e.channel, e.version, e.previous, e.share) for e in repository.audit(MODEL)[-3:]]
    assert told == [
        ("champion", "1", "3", None),
        ("challenger", None, "2", 0.0),
        ("shadow", None, "2", None),
    ]


def test_a_decision_is_made_if_all_is_as_expected(repository: ModelRepository) -> None:
    """Else it is not, and leaves no trace; the shadow does not count and stays."""
    expected = repository.channels(MODEL)
    new = expected.pointing("challenger", "2").sharing(0.1, "s")
    repository.set_channel(MODEL, "shadow", "3", "watch", "ann", 5)
    assert repository.decide(MODEL, _decision(expected, new))
    assert repository.channels(MODEL) == Channels("1", "2", "3", {"challenger": 0.1}, "s")
    before = repository.audit(MODEL)
    assert not repository.decide(MODEL, _decision(expected, new, at_us=10))
    assert repository.audit(MODEL) == before
    now = repository.channels(MODEL)
    with pytest.raises(VersionNotFoundError):
        repository.decide(MODEL, _decision(now, now.pointing("challenger", "9"), at_us=11))


def test_a_decision_said_again_is_made_once(repository: ModelRepository) -> None:
    """Also when somebody changed the channels since, or changed them back."""
    expected = repository.channels(MODEL)
    decision = _decision(expected, expected.pointing("challenger", "2").sharing(0.1, "s"))
    for _ in range(3):
        assert repository.decide(MODEL, decision)
    assert len(repository.audit(MODEL)) == 2
    repository.set_channel(MODEL, "challenger", None, "no", "ann", 11)
    repository.set_challenger(MODEL, "2", 0.0, "", "back", "ann", 12)
    repository.set_channel(MODEL, "challenger", None, "no", "ann", 13)
    before = repository.channels(MODEL)
    assert repository.decide(MODEL, decision)
    assert repository.channels(MODEL) == before
    assert len(repository.audit(MODEL)) == 5


def test_a_decision_that_was_only_announced_is_made(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its maker died behind the audit line: said again it is made, without another line."""
    expected = repository.channels(MODEL)
    decision = _decision(expected, expected.pointing("challenger", "2").sharing(0.1, "s"))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(contracts.model_decisions, "replace_file", die)
        with pytest.raises(KeyboardInterrupt):
            repository.decide(MODEL, decision)
    assert repository.channels(MODEL) == expected
    assert repository.decide(MODEL, decision)
    assert repository.channels(MODEL) == decision.new
    assert [entry.at_us for entry in repository.audit(MODEL)] == [1, 9]


def test_a_remark_stands_once_and_changes_nothing(repository: ModelRepository) -> None:
    """It is an entry like others, and is left out where it stands already."""
    entry = AuditEntry(7, "stop", "challenger", None, "2", "ann was faster", "evaluator")
    before = repository.channels(MODEL)
    for _ in range(2):
        repository.remark(MODEL, entry)
    assert repository.audit(MODEL)[1:] == [entry]
    assert repository.channels(MODEL) == before


def test_torn_lines_of_the_audit_are_left_out(repository: ModelRepository) -> None:
    """Half a line, no JSON, other fields: the others are still read, and decisions still made."""
    file = repository.root / MODEL / "audit.ndjson"
    whole = repository.audit(MODEL)
    with file.open("ab") as out:
        out.write(b'{"at_us": 1}\n\xff\n' + b"[" * 100_000 + b'\n{"at_us": 2, "act')
    assert repository.audit(MODEL) == whole
    expected = repository.channels(MODEL)
    decision = _decision(expected, expected.pointing("challenger", "2"))
    assert repository.decide(MODEL, decision)
    assert [asdict(entry) for entry in repository.audit(MODEL)] == [
        *(asdict(entry) for entry in whole),
        asdict(decision.entry),
    ]


@pytest.mark.parametrize("weights", ["", [], [["challenger", 0.5]]])
def test_weights_that_are_no_object(repository: ModelRepository, weights: object) -> None:
    """They are told as a broken file, not met later by whoever asks for a share."""
    text = json.dumps({"champion": "1", "challenger": "2", "weights": weights})
    (repository.root / MODEL / "channels.json").write_text(text)
    with pytest.raises(CorruptChannelsError, match="weights"):
        repository.channels(MODEL)


@pytest.mark.parametrize("version", ["latest", 7, ["1"]])
def test_an_entry_of_no_version_is_none(repository: ModelRepository, version: object) -> None:
    """What somebody put into the audit file by hand does not stop whoever reads it."""
    before = repository.audit(MODEL)
    line = asdict(before[-1]) | {"version": version}
    with (repository.root / MODEL / "audit.ndjson").open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert repository.audit(MODEL) == before
