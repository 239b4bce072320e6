"""A replay changes everything or nothing, and mends what cannot be read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from contracts.evaluation_file import evaluation_file, read_evaluation, write_evaluation
from contracts.model_repository import ModelRepository
from contracts.online_store import SqliteConfig
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow import engine
from dataflows.flow.engine import Summary, default_places, run_flow
from dataflows.flow.metrics import current_progress
from dataflows.flow.run_context import Places
from dataflows.replay import replay as replaying
from dataflows.replay.contents import Digest, digest
from dataflows.replay.job import ReplayError, drop
from dataflows.replay.options import ReplayOptions
from dataflows.replay.places import fresh_places
from dataflows.replay.replay import ReplayInterruptedError, replay
from tests.flow import shop

PATIENCE_SECONDS = 30.0
MODEL = "late_order"


@dataclass(frozen=True)
class Live:
    """A repository that was run to the end of its log."""

    repository: Repository
    settings: DataflowSettings

    @property
    def places(self) -> Places:
        """Where everything lies."""
        return default_places(self.repository, self.settings)

    def run(self) -> Summary:
        """Run to the end of the log."""
        return run_flow(self.repository, self.settings, self.places, until_end=True)

    def digest(self) -> Digest:
        """What all of it holds."""
        return digest(self.repository, self.places)

    def contents(self) -> dict[str, bytes]:
        """All files below the data folder that a replay may touch, but what SQLite keeps."""
        data = self.repository.directory / "data"
        return {
            str(path.relative_to(data)): path.read_bytes()
            for path in sorted(data.rglob("*"))
            if path.is_file()
            and ".db" not in path.name
            and not path.name.endswith(".lock")
            and ".replay" not in str(path.relative_to(data))
            and data / "log" not in path.parents
        }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, records: list[shop.Record]) -> Path:
    """The folder of a repository that was run; to be copied."""
    folder = shop.make_repository(tmp_path_factory.mktemp("made") / "repository")
    shop.write_log(folder / "data" / "log", records)
    _live(folder).run()
    return folder


@pytest.fixture
def live(made: Path, tmp_path: Path) -> Live:
    """A copy of the repository that was run."""
    shutil.copytree(made, tmp_path / "repository")
    return _live(tmp_path / "repository")


def _live(folder: Path) -> Live:
    url = (folder / "data" / "log").as_uri()
    settings = DataflowSettings.for_repo(folder, log_url=url, shards=3)
    return Live(load_repository(folder), settings)


def _records(live: Live) -> int:
    """How many records the log holds."""
    log = live.repository.directory / "data" / "log"
    return sum(len(path.read_bytes().splitlines()) for path in log.rglob("*.ndjson"))


def _left_over(live: Live) -> list[str]:
    places = fresh_places(live.places)
    assert isinstance(places.online, SqliteConfig)
    every = [places.state, places.online.path, places.examples, places.models]
    return [str(path) for path in [*every, *places.offline.values()] if path.exists()]


def test_a_replay_gives_the_same(live: Live) -> None:
    """Rebuilt from the log everything is as it was, and the next run has nothing to do."""
    before = live.digest()
    replayed = replay(live.repository, live.settings)
    assert replayed.before == replayed.after == before == live.digest()
    assert not _left_over(live)
    assert live.run().tally.events == 0
    assert live.digest() == before


def test_evaluations_outlast_a_replay(live: Live) -> None:
    """The dataflow's evaluation comes out the same, that of served predictions is carried over."""
    mine, served = (
        evaluation_file(live.places.models, MODEL, side) for side in ("pipeline", "served")
    )
    before = mine.read_bytes()
    write_evaluation(served, MODEL, {"task": "binary"})
    replay(live.repository, live.settings)
    assert mine.read_bytes() == before
    assert read_evaluation(served) == {"format": 1, "model": MODEL, "task": "binary"}


def test_a_stopped_replay_changes_nothing(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay that was stopped changes nothing, and leaves what can be dropped."""
    before, digest = live.contents(), live.digest()
    run_locked = engine.run_locked

    def stopped(*given: Any) -> Summary:
        return replace(run_locked(*given), was_stopped=True)

    monkeypatch.setattr(replaying, "run_locked", stopped)
    with pytest.raises(ReplayInterruptedError, match="everything is as it was"):
        replay(live.repository, live.settings)
    assert live.contents() == before
    assert live.digest() == digest
    assert _left_over(live)
    assert drop(live.places)
    assert not _left_over(live)
    assert not drop(live.places)


def test_another_replay_does_not_take_up_what_one_left(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other options than those of the interrupted replay are refused until that is dropped."""
    with monkeypatch.context() as patched:
        run_locked = engine.run_locked
        patched.setattr(
            replaying, "run_locked", lambda *given: replace(run_locked(*given), was_stopped=True)
        )
        with pytest.raises(ReplayInterruptedError):
            replay(live.repository, live.settings, ReplayOptions(results=("online",)))
    with pytest.raises(ReplayError, match="replay --drop"):
        replay(live.repository, live.settings)
    drop(live.places)
    replay(live.repository, live.settings)


def test_a_signal_stops_a_replay(live: Live) -> None:
    """SIGTERM in the middle of a replay changes nothing; the next one goes on where it stopped."""
    before, digest = live.contents(), live.digest()
    state = fresh_places(live.places).state

    def stop_when_under_way() -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        # Replaced files and folders that vanish are not there for an instant.
        while not any(said.events for said in current_progress(state)):
            if time.monotonic() > deadline:
                return
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    slowly = live.settings.model_copy(update={"batch_bytes": 400, "epoch_seconds": 0.0})
    # Whoever sends it too early or too late must not end the tests.
    before_us = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sender = threading.Thread(target=stop_when_under_way)
    sender.start()
    try:
        with pytest.raises(ReplayInterruptedError):
            replay(live.repository, slowly)
    finally:
        sender.join(PATIENCE_SECONDS)
        signal.signal(signal.SIGTERM, before_us)
    assert live.contents() == before
    assert live.digest() == digest
    replayed = replay(live.repository, live.settings)
    assert 0 < replayed.events < _records(live)
    assert replayed.after == digest == live.digest()
    assert not _left_over(live)


def test_a_garbage_online_store_is_mended(live: Live) -> None:
    """An online store that SQLite cannot read gives way to the replayed one."""
    digest = live.digest()
    assert isinstance(live.places.online, SqliteConfig)
    for path in live.places.online.path.parent.glob("online.db*"):
        path.unlink()
    live.places.online.path.write_bytes(b"garbage" * 1000)
    assert replay(live.repository, live.settings).after == digest
    assert live.digest() == digest


@pytest.mark.parametrize("damaged", ["1/model.onnx", "1/manifest.json", "channels.json"])
def test_garbage_in_the_model_repository_is_mended(live: Live, damaged: str) -> None:
    """A version or channels that cannot be read are as before after a replay."""
    digest = live.digest()
    champion = ModelRepository(live.places.models).channels(MODEL).champion
    (live.places.models / MODEL / damaged).write_bytes(b"garbage")
    replay(live.repository, live.settings)
    assert live.digest() == digest
    models = ModelRepository(live.places.models)
    assert models.channels(MODEL).champion == champion
    models.load(MODEL, "1")


def test_garbage_in_the_state_is_mended(live: Live) -> None:
    """An identity that cannot be read, which stops every run, is made anew."""
    digest = live.digest()
    (live.places.state / "identity.json").write_text("{")
    replay(live.repository, live.settings)
    assert json.loads((live.places.state / "identity.json").read_text())
    assert live.run().tally.events == 0
    assert live.digest() == digest


def test_a_rollback_outlasts_a_replay(live: Live) -> None:
    """A champion that somebody chose is still champion, and the audit still says who it was."""
    models = ModelRepository(live.places.models)
    chosen = models.rollback(MODEL, "worse", "ann", 5)
    before = models.audit(MODEL)
    replay(live.repository, live.settings)
    assert models.channels(MODEL).champion == chosen
    assert models.audit(MODEL)[: len(before)] == before
    assert models.audit(MODEL)[-1].actor == "ann"


def test_batch_versions_outlast_a_replay(live: Live) -> None:
    """A version that was trained outside of the log stays, to the last byte, and stays champion."""
    models = ModelRepository(live.places.models)
    manifest, onnx = models.load(MODEL, models.versions(MODEL)[-1])
    models.publish(replace(manifest, version="b1", created_by="ann"), onnx)
    models.set_channel(MODEL, "champion", "b1", "better", "ann", 5)
    other = replace(manifest.schema, project="another")
    models.publish(
        replace(manifest, version="b2", schema=other, fingerprint=other.fingerprint), onnx
    )
    digest, files = live.digest(), live.contents()
    replayed = replay(live.repository, live.settings)
    assert replayed.before == replayed.after == digest == live.digest()
    kept = [name for name in files if f"/{MODEL}/b1/" in name]
    assert len(kept) >= 3
    assert {name: live.contents()[name] for name in kept} == {name: files[name] for name in kept}
    assert models.channels(MODEL).champion == "b1"
    # What it was trained for is not what the dataflow makes now.
    assert "b2" not in models.versions(MODEL)
