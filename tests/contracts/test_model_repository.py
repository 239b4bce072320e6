"""The model repository: versions that never change, channels, the audit file, what is refused."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.feature_schema import FeatureSchema, VectorField
from contracts.manifest import Manifest, ManifestError, sha256_hex
from contracts.model_channels import AuditEntry, previous_champion
from contracts.model_repository import (
    CorruptChannelsError,
    CorruptVersionError,
    ModelNotFoundError,
    ModelRepository,
    NoPreviousChampionError,
    VersionConflictError,
    VersionNotFoundError,
)

SCHEMA = FeatureSchema(
    project="shop",
    fields=(
        VectorField("amount", "request", "float64", 0.1),
        VectorField(
            name="card_1h:spent",
            kind="feature",
            dtype="float64",
            default=-1.0,
            view="card_1h",
            feature="spent",
            join_keys=("card",),
            join_key_types=("int64",),
            ttl_seconds=60.0,
        ),
    ),
)


def manifest(version: str = "1", onnx: bytes = b"model") -> Manifest:
    """A manifest that fits ``onnx``."""
    return Manifest(
        model="fraud",
        version=version,
        schema=SCHEMA,
        fingerprint=SCHEMA.fingerprint,
        learner="StandardScaler | LogisticRegression",
        trained_from_us=-5,
        trained_until_us=1_700_000_000_000_001,
        examples=12,
        metrics={"auc": 0.1 + 0.2},
        parity={"rows": 3, "max_abs_diff": 1e-16},
        git_commit="abc",
        parent=None if version == "1" else str(int(version) - 1),
        sha256=sha256_hex(onnx),
        created_by="test",
        offsets={"payments/0": 17},
    )


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    """A repository whose root does not exist yet."""
    return ModelRepository(tmp_path / "models")


def set_champions(repository: ModelRepository, *versions: str) -> None:
    """Publish each version if need be, and make it champion, one after the other."""
    for at_us, version in enumerate(versions):
        repository.publish(manifest(version), b"model")
        repository.set_channel("fraud", "champion", version, "newer", "learner", at_us)


def test_a_published_version_comes_back(repository: ModelRepository) -> None:
    """What was published is loaded equal, types and bits of doubles included."""
    assert repository.publish(manifest(), b"model")
    assert repository.load("fraud", "1") == (manifest(), b"model")
    assert repository.models() == ["fraud"]


def test_versions_are_in_the_order_of_their_numbers(repository: ModelRepository) -> None:
    """Version 10 comes after version 9, and temporary folders are no versions."""
    for version in ("9", "10", "1"):
        repository.publish(manifest(version), b"model")
    (repository.root / "fraud" / ".tmp").mkdir()
    assert repository.versions("fraud") == ["1", "9", "10"]


def test_publishing_again_changes_nothing(repository: ModelRepository) -> None:
    """The same version again, be it from another commit, is accepted and not written."""
    repository.publish(manifest(), b"model")
    again = replace(manifest(), git_commit="other", created_by="replay", offsets={})
    assert not repository.publish(again, b"model")
    assert repository.load("fraud", "1")[0].git_commit == "abc"


def test_a_version_never_changes(repository: ModelRepository) -> None:
    """Other contents under a number that is taken are refused, and the first ones stay."""
    repository.publish(manifest(), b"model")
    with pytest.raises(VersionConflictError, match="exists with other contents"):
        repository.publish(manifest(onnx=b"other"), b"other")
    with pytest.raises(VersionConflictError):
        repository.publish(replace(manifest(), metrics={"auc": 0.3}), b"model")
    assert repository.load("fraud", "1") == (manifest(), b"model")


def test_what_a_dead_publisher_left_is_cleared(repository: ModelRepository) -> None:
    """A half written version of a killed process neither counts nor blocks the next one."""
    repository.publish(manifest(), b"model")
    left = repository.root / "fraud" / ".tmp"
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    assert repository.publish(manifest("2"), b"model")
    assert repository.versions("fraud") == ["1", "2"]
    assert not left.exists()


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("model.onnx", lambda b: bytes([b[0] ^ 1]) + b[1:], "SHA-256"),
        ("model.onnx", None, "model.onnx"),
        ("manifest.json", None, "manifest.json"),
        ("manifest.json", lambda b: b[:-40], "not JSON"),
        ("manifest.json", lambda b: b.replace(b"0.1,", b"0.2,", 1), "fingerprint"),
        ("manifest.json", lambda b: b.replace(b'"version": "1"', b'"version": "7"'), "version 7"),
        ("manifest.json", lambda b: b.replace(b'"learner"', b'"teacher"'), "'learner'"),
    ],
)
def test_a_damaged_version_is_refused(
    repository: ModelRepository, file: str, damage: object, reason: str
) -> None:
    """Each kind of damage to a version's files is found at load, naming the file or field."""
    repository.publish(manifest(), b"model")
    path = repository.root / "fraud" / "1" / file
    if callable(damage):
        before = path.read_bytes()
        path.write_bytes(damage(before))
        assert path.read_bytes() != before
    else:
        path.unlink()
    with pytest.raises(CorruptVersionError, match=reason):
        repository.load("fraud", "1")


@pytest.mark.parametrize("name", ["none", "", ".", "..", "../fraud", "Fraud", "fraud/1", "a\0b"])
def test_unknown_and_impossible_names(repository: ModelRepository, name: str) -> None:
    """A name from outside never reaches beyond the root: it is just not found."""
    repository.publish(manifest(), b"model")
    with pytest.raises(ModelNotFoundError):
        repository.load(name, "1")
    with pytest.raises(VersionNotFoundError):
        repository.load("fraud", name)


@pytest.mark.parametrize("version", ["2", "01", "0", "-1", "1 ", "1" * 30])
def test_unknown_versions(repository: ModelRepository, version: str) -> None:
    """Versions that do not exist, or are no version numbers, are not found."""
    repository.publish(manifest(), b"model")
    with pytest.raises(VersionNotFoundError):
        repository.load("fraud", version)
    with pytest.raises(VersionNotFoundError):
        repository.set_channel("fraud", "champion", version, "try", "test", 0)


def test_channels_and_their_audit(repository: ModelRepository) -> None:
    """Each change of a channel is one line of the audit file; setting the same again is none."""
    repository.publish(manifest(), b"model")
    assert repository.channels("fraud").champion is None
    repository.set_channel("fraud", "champion", "1", "first", "learner", 5)
    repository.set_channel("fraud", "champion", "1", "again", "learner", 6)
    repository.set_channel("fraud", "shadow", "1", "watch", "ann", 7)
    repository.set_channel("fraud", "champion", None, "broken", "ann", 8)
    channels = repository.channels("fraud")
    assert (channels.champion, channels.challenger, channels.shadow) == (None, None, "1")
    assert repository.audit("fraud") == [
        AuditEntry(5, "set", "champion", "1", None, "first", "learner"),
        AuditEntry(7, "set", "shadow", "1", None, "watch", "ann"),
        AuditEntry(8, "set", "champion", None, "1", "broken", "ann"),
    ]


def test_rollback_goes_back_and_never_forth(repository: ModelRepository) -> None:
    """A second rollback goes further back, and a version that was rolled back stays out."""
    set_champions(repository, "1", "2", "3")
    assert repository.rollback("fraud", "worse", "ann", 10) == "2"
    assert repository.channels("fraud").champion == "2"
    repository.publish(manifest("4"), b"model")
    repository.promote("fraud", "4", "fixed", "ann", 11)
    assert repository.rollback("fraud", "still", "ann", 12) == "2"
    assert repository.rollback("fraud", "still", "ann", 13) == "1"
    with pytest.raises(NoPreviousChampionError):
        repository.rollback("fraud", "still", "ann", 14)
    assert repository.channels("fraud").champion == "1"
    assert [entry.action for entry in repository.audit("fraud")] == [
        *["set"] * 3,
        "rollback",
        "promote",
        "rollback",
        "rollback",
    ]


def test_a_change_that_a_crash_prevented_does_not_count(repository: ModelRepository) -> None:
    """An audit line without its change, and a torn one, do not lead a rollback astray."""
    set_champions(repository, "1", "2")
    audit = repository.root / "fraud" / "audit.ndjson"
    entry = {"at_us": 9, "action": "set", "channel": "champion", "version": "3", "previous": "2"}
    line = json.dumps({**entry, "reason": "", "actor": ""})
    audit.write_text(audit.read_text() + line + "\n" + line[:30])
    assert repository.rollback("fraud", "worse", "ann", 10) == "1"
    assert repository.audit("fraud")[-1].action == "rollback"


def test_a_broken_channels_file_is_named_and_can_be_mended(repository: ModelRepository) -> None:
    """Broken channels are an error that names the file; setting the champion writes them anew."""
    set_champions(repository, "1")
    file = repository.root / "fraud" / "channels.json"
    for text in (
        "{",
        "[]",
        "[" * 100_000,
        '{"champion": "x"}',
        '{"champion": 1}',
        '{"weights": {"champion": 2}}',
        '{"weights": {"champion": ' + 400 * "9" + "}}",
    ):
        file.write_text(text)
        with pytest.raises(CorruptChannelsError, match=r"channels\.json"):
            repository.channels("fraud")
    repository.promote("fraud", "1", "mend", "ann", 1)
    assert repository.channels("fraud").champion == "1"


def test_writers_and_readers_at_once(repository: ModelRepository) -> None:
    """With several writers, no change is lost and a reader never sees a half written file."""
    repository.publish(manifest(), b"model")
    done = threading.Event()
    torn: list[Exception] = []

    def write(channel: str) -> None:
        for number in range(10):
            version = "1" if number % 2 == 0 else None
            repository.set_channel("fraud", channel, version, "", channel, number)  # type: ignore[arg-type]

    def read() -> None:
        while not done.is_set():
            try:
                repository.channels("fraud")
            except CorruptChannelsError as error:
                torn.append(error)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(c,)) for c in ("champion", "shadow")]
    reader.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert not torn
    assert len(repository.audit("fraud")) == 20


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": "0"}, "version"),
        ({"model": "Fraud"}, "model"),
        ({"metrics": {"auc": float("nan")}}, "JSON"),
        ({"parity": {"rows": 1}}, "parity"),
        ({"examples": -1}, "examples"),
        ({"examples": True}, "examples"),
        ({"sha256": "0" * 64}, "sha256"),
        ({"fingerprint": "0" * 64}, "fingerprint"),
        ({"schema": replace(SCHEMA, fields=(SCHEMA.fields[0],) * 2)}, "twice"),
        ({"schema": FeatureSchema("shop", ())}, "schema"),
    ],
)
def test_a_malformed_manifest_is_not_published(
    repository: ModelRepository, change: dict[str, object], named: str
) -> None:
    """Publishing refuses what loading would refuse, and leaves nothing behind."""
    with pytest.raises(ManifestError, match=named):
        repository.publish(replace(manifest(), **change), b"model")  # type: ignore[arg-type]
    assert repository.models() == []


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x, max_size=3)))
def test_any_wrong_value_is_a_manifest_error(value: object) -> None:
    """Whatever stands in a field, reading gives a manifest or a ManifestError, nothing else."""
    good = json.loads(manifest().to_json())
    for name in good:
        try:
            Manifest.from_json(json.dumps({**good, name: value}))
        except ManifestError:
            continue
    schema_field = good["schema"]["fields"][1]
    for name in schema_field:
        data = {**good, "schema": {**good["schema"], "fields": [{**schema_field, name: value}]}}
        try:
            Manifest.from_json(json.dumps(data))
        except ManifestError:
            continue


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("123456")), max_size=12))
def test_rollback_equals_a_stack(steps: list[tuple[bool, str]]) -> None:
    """Any mix of new champions and rollbacks goes back as a stack of distinct neighbours does."""
    stack: list[str] = []
    entries: list[AuditEntry] = []
    for roll_back, version in steps:
        present = stack[-1] if stack else None
        expected = next((v for v in reversed(stack) if v != present), None)
        assert previous_champion(entries, present) == expected
        if roll_back and expected is not None:
            while stack[-1] != expected:
                stack.pop()
            entries.append(AuditEntry(0, "rollback", "champion", expected, present, "", ""))
        elif not roll_back and version != present:
            stack.append(version)
            entries.append(AuditEntry(0, "set", "champion", version, present, "", ""))
