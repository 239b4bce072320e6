"""Settings: where values come from, what is refused, and what the refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.processes import PROCESSES
from contracts.scorer_settings import ScorerSettings
from contracts.settings import (
    ClientSettings,
    DataflowSettings,
    LogUrl,
    Settings,
    SettingsError,
    split_address,
)


@pytest.mark.parametrize("process", PROCESSES)
def test_defaults_lie_in_the_repository(process: type[Settings], tmp_path: Path) -> None:
    """Without any variable every folder is absolute and lies in the repository's data folder."""
    settings = process.for_repo(tmp_path)
    folders = [value for _, value in settings if isinstance(value, Path)]
    assert folders
    assert all(folder.parent == tmp_path / "data" for folder in folders)
    assert settings.log == LogUrl(scheme="file", folder=tmp_path / "data" / "log")


def test_a_relative_repository_gives_absolute_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository named from the current folder gives the same folders as its absolute name."""
    monkeypatch.chdir(tmp_path)
    assert DataflowSettings.for_repo(Path("shop")) == DataflowSettings.for_repo(tmp_path / "shop")


def test_a_folder_that_is_set_counts_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative folder from the environment is meant as the shell means it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADWATER_STATE_DIR", "elsewhere/state")
    settings = DataflowSettings.for_repo(tmp_path / "repo")
    assert settings.state_dir == tmp_path / "elsewhere" / "state"
    assert settings.model_repository == tmp_path / "repo" / "data" / "models"


def test_given_goes_before_environment_before_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value handed over wins over the variable, and the variable over the default."""
    assert DataflowSettings.for_repo(tmp_path).shards == 16
    monkeypatch.setenv("HEADWATER_SHARDS", "4")
    assert DataflowSettings.for_repo(tmp_path).shards == 4
    assert DataflowSettings.for_repo(tmp_path, shards=2).shards == 2


def test_an_empty_variable_counts_as_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compose files hand on empty strings for what nobody set."""
    expected = DataflowSettings.for_repo(tmp_path)
    for name in ("STATE_DIR", "LOG_URL", "SHARDS", "METRICS_ADDRESS"):
        monkeypatch.setenv(f"HEADWATER_{name}", "")
    assert DataflowSettings.for_repo(tmp_path) == expected


def test_a_variable_of_another_process_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One environment serves all processes: each reads only its own settings."""
    monkeypatch.setenv("HEADWATER_SHARDS", "none of your business")
    assert ScorerSettings.for_repo(tmp_path).grace_seconds == 5.0


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    """What a process was started with stays as it is."""
    settings = ScorerSettings.for_repo(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        settings.grace_seconds = 1.0


@pytest.mark.parametrize(
    ("process", "variable", "value", "allowed"),
    [
        (DataflowSettings, "SHARDS", "0", "a whole number from 1 to 4096"),
        (DataflowSettings, "SHARDS", "many", "a whole number from 1 to 4096"),
        (DataflowSettings, "EPOCH_SECONDS", "-1", "seconds from 0 to 3600"),
        (DataflowSettings, "EPOCH_SECONDS", "nan", "seconds from 0 to 3600"),
        (DataflowSettings, "ALIGNMENT_SECONDS", "nan", "seconds above 0"),
        (DataflowSettings, "BAD_RECORD_SHARE_MAX", "1.5", "a number from 0 to 1"),
        (DataflowSettings, "BAD_RECORD_SHARE_MAX", "nan", "a number from 0 to 1"),
        (DataflowSettings, "LOG_URL", "file://data/log", "file:///DIR (three slashes"),
        (DataflowSettings, "LOG_URL", "redis://localhost:1", "or kafka://host:port"),
        (DataflowSettings, "METRICS_ADDRESS", "9100", "host:port, or empty"),
        (ScorerSettings, "SCORER_ADDRESS", "localhost:65536", "host:port"),
        (ScorerSettings, "MODEL_POLL_SECONDS", "0", "seconds above 0, up to 3600"),
        (ClientSettings, "CLIENT_DEADLINE_SECONDS", "soon", "seconds above 0, up to 3600"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(
    process: type[Settings],
    variable: str,
    value: str,
    allowed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The refusal is one line with the variable, its value and what is allowed."""
    monkeypatch.setenv(f"HEADWATER_{variable}", value)
    with pytest.raises(SettingsError) as refusal:
        process.for_repo(tmp_path)
    message = str(refusal.value)
    assert message.startswith(f"HEADWATER_{variable} is {value!r}, must be ")
    assert allowed in message
    assert "\n" not in message


def test_all_bad_values_are_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to start a process twice to learn of the second mistake."""
    monkeypatch.setenv("HEADWATER_SHARDS", "0")
    monkeypatch.setenv("HEADWATER_BATCH_BYTES", "0")
    with pytest.raises(SettingsError, match=r"HEADWATER_SHARDS .*; HEADWATER_BATCH_BYTES "):
        DataflowSettings.for_repo(tmp_path)


def test_a_setting_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """A misspelt name handed over by our own code is an error, not silence."""
    with pytest.raises(SettingsError, match="DataflowSettings has no setting shard"):
        DataflowSettings.for_repo(tmp_path, shard=3)


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("file:///srv/log", LogUrl("file", Path("/srv/log"))),
        ("file:///srv/my%20log", LogUrl("file", Path("/srv/my log"))),
        ("kafka://localhost:9092", LogUrl("kafka", None, ("localhost:9092",))),
        ("kafka://a:1,b:2/", LogUrl("kafka", None, ("a:1", "b:2"))),
        ("kafka://[::1]:9092", LogUrl("kafka", None, ("[::1]:9092",))),
    ],
)
def test_log_url(url: str, parsed: LogUrl) -> None:
    """A log URL names a folder or some brokers."""
    assert LogUrl.parse(url) == parsed


def test_the_default_log_url_survives_odd_folder_names(tmp_path: Path) -> None:
    """Blanks, percent and hash signs in the repository's path come back as they were."""
    repo = tmp_path / "a b%20c#d?e"
    assert DataflowSettings.for_repo(repo).log.folder == repo / "data" / "log"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/log",
        "file:srv/log",
        "file://host/log",
        "file:///log?x=1",
        "kafka://",
        "kafka://localhost",
        "kafka://a:1,,b:2",
        "kafka://a:1/topic",
        "kafka://[::1:9092",
    ],
)
def test_not_a_log_url(url: str) -> None:
    """Anything else is refused rather than guessed at."""
    with pytest.raises(ValueError, match=r"log URL|not an address|IPv6"):
        LogUrl.parse(url)


def test_addresses() -> None:
    """An address has a host and a port; IPv6 hosts stand in brackets."""
    assert split_address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert split_address("[::1]:50051") == ("::1", 50051)
    for bad in ("localhost", "localhost:", ":1", "::1:50051", "a b:1", "localhost:99999"):
        with pytest.raises(ValueError, match="not an address"):
            split_address(bad)


def test_the_prediction_log_can_be_turned_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`none` turns it off; nothing at all is the default, and no name leads out of the log."""
    for value, topic in (("none", ""), ("", "predictions"), ("scored.v2", "scored.v2")):
        monkeypatch.setenv("HEADWATER_PREDICTION_TOPIC", value)
        assert ScorerSettings.for_repo(tmp_path).prediction_topic == topic
    monkeypatch.setenv("HEADWATER_PREDICTION_TOPIC", "..")
    with pytest.raises(SettingsError, match="HEADWATER_PREDICTION_TOPIC"):
        ScorerSettings.for_repo(tmp_path)


def test_no_password_in_a_wrong_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An address that is refused is shown without what stands before its @."""
    for before, shown in (
        ("ftp://me:secret@", r"ftp://\*\*\*@host"),
        ("ftp://me:se@cret/secret@", r"ftp://\*\*\*@host"),
        ("ftp://me:secret/secret@", r"ftp://\*\*\*@host"),
        ("me:secret@", r"'\*\*\*@host"),
    ):
        monkeypatch.setenv("HEADWATER_SCHEMA_REGISTRY_URL", f"{before}host")
        with pytest.raises(SettingsError, match=shown) as caught:
            DataflowSettings.for_repo(tmp_path)
        assert "secret" not in str(caught.value)
        assert "cret/" not in str(caught.value)


def test_no_password_in_the_settings_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a log may print of the settings holds no password."""
    monkeypatch.setenv("HEADWATER_SCHEMA_REGISTRY_URL", "http://me:secret@host:8081")
    monkeypatch.setenv("HEADWATER_KAFKA_SASL_PASSWORD", "secret")
    monkeypatch.setenv("HEADWATER_KAFKA_SSL_KEY_PASSWORD", "secret")
    settings = DataflowSettings.for_repo(tmp_path)
    assert settings.schema_registry_url == "http://me:secret@host:8081"
    assert "secret" not in repr(settings)
    assert "secret" not in str(settings)
