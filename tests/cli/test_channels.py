"""`headwater models promote|rollback|challenger|shadow|audit` on a model repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from contracts.model_channels import Channels
from tests.served.world import MODEL, World


class Command:
    """Runs commands in this process, on one model repository."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world, self._capsys = world, capsys

    def __call__(self, *words: str, fails: bool = False) -> str:
        """What it printed: to the standard output, or as it failed."""
        with pytest.raises(SystemExit) as end:
            main(["models", *words])
        out, error = self._capsys.readouterr()
        assert bool(end.value.code) == fails, error
        return error if fails else out

    @property
    def channels(self) -> Channels:
        """As they are."""
        return self.world.repository.channels(MODEL)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Versions 1 to 3, the first of which serves."""
    world = World(tmp_path)
    world.publish("1", "2", "3")
    monkeypatch.setenv("HEADWATER_MODEL_REPOSITORY", str(world.repository.root))
    return Command(world, capsys)


def test_the_list_shows_all_channels(command: Command) -> None:
    """Champion, challenger with its share, and shadow; a dash where there is none."""
    assert command("list").splitlines()[-1].split()[:6] == [MODEL, "3", "1", "–", "–", "7"]
    command("challenger", MODEL, "2", "--share", "0.25")
    command("shadow", MODEL, "3")
    assert command("list").splitlines()[-1].split()[:6] == [MODEL, "3", "1", "2", "(25%)", "3"]
    (row,) = json.loads(command("list", "--json"))
    found = [row[name] for name in ("champion", "challenger", "challenger_share", "shadow")]
    assert found == ["1", "2", 0.25, "3"]


def test_a_key_that_cannot_be_used_is_named_by_its_setting(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with the setting, the file, and what to do."""
    file = tmp_path / "no.pem"
    file.write_text("no key")
    for name in ("SIGNING_KEY_FILE", "VERIFY_KEYS_FILE"):
        with monkeypatch.context() as patched:
            patched.setenv(f"HEADWATER_{name}", str(file))
            said = command("list", fails=True)
        assert f"HEADWATER_{name}: {file} holds no" in said
        assert said.count("\n") == 1


def test_a_challenger_by_hand(command: Command) -> None:
    """It gets its share in one step, loses it by a rollback, and its channel by a promotion."""
    out = command("challenger", MODEL, "2", "--share", "0.25", "--reason", "try")
    assert "version 2 is challenger with a share of 0.25" in out
    assert command.channels == Channels("1", "2", None, {"challenger": 0.25}, "fraud/2")
    command("promote", MODEL, "2")
    assert (command.channels.champion, command.channels.challenger) == ("2", None)
    command("challenger", MODEL, "3", "--share", "0.5")
    command("rollback", MODEL, "--reason", "worse")
    assert command.channels.champion == "1"
    assert command.channels.challenger_share == 0.0
    command("challenger", MODEL, "none")
    assert command.channels.challenger is None


def test_a_shadow_by_hand(command: Command) -> None:
    """It is set and taken away."""
    assert "version 3 is shadow" in command("shadow", MODEL, "3")
    assert command.channels.shadow == "3"
    command("shadow", MODEL, "none")
    assert command.channels.shadow is None


def test_what_cannot_serve_is_refused(command: Command) -> None:
    """A version that is not there or broken, and a share that is none."""
    assert "no version '9'" in command("challenger", MODEL, "9", fails=True)
    (command.world.repository.root / MODEL / "2" / "model.onnx").write_bytes(b"?")
    assert "SHA-256" in command("challenger", MODEL, "2", "--share", "0.5", fails=True)
    assert "SHA-256" in command("shadow", MODEL, "2", fails=True)
    assert "'--share'" in command("challenger", MODEL, "3", "--share", "1.5", fails=True)
    assert command.channels == Channels("1")


def test_the_audit_says_who_did_what_when_why_and_on_what(command: Command) -> None:
    """A line for each change, the figures among it; as JSON too."""
    repository = command.world.repository
    repository.set_challenger(MODEL, "2", 0.1, "s", "new", "evaluator", 0, {"labels": 7.0})
    command("rollback", MODEL, fails=True)
    command("promote", MODEL, "3", "--reason", "better")
    lines = command("audit", MODEL, "--last", "2").splitlines()
    assert len(lines) == 3
    assert lines[1] == (
        "1970-01-01 00:00:00\tevaluator\tset challenger – → 2, share 0.1\tnew\tlabels 7"
    )
    assert "promote champion 1 → 3\tbetter" in lines[2]
    listed = json.loads(command("audit", MODEL, "--json"))
    assert [entry["action"] for entry in listed] == ["set", "set", "promote"]
    assert listed[1]["figures"] == {"labels": 7.0}
