"""The command line itself: help, exit codes, and one line for every error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.failures import CommandError, explain
from cli.main import VERBS, main
from contracts.settings import SettingsError
from tests.cli.rides import Rides

MODEL_VERBS = [
    "list",
    "show",
    "promote",
    "rollback",
    "challenger",
    "shadow",
    "audit",
    "evaluation",
    "drift",
    "card",
]

# What takes from a fraction of a second to many seconds to import.
HEAVY = {"bytewax", "feast", "grpc", "numba", "numpy", "onnxruntime", "pandas", "pyarrow", "river"}


def _loaded_after(code: str) -> set[str]:
    """Top-level modules that are loaded in a new interpreter after running ``code``."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_help_loads_nothing_heavy() -> None:
    """`headwater --help` answers without importing any of the frameworks."""
    code = "from cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert not HEAVY & _loaded_after(code)


def test_the_scorer_starts_without_feast() -> None:
    """What `serve` and `score` import keeps Feast, Bytewax and the learners out."""
    loaded = _loaded_after("import cli.main, scorer.server, scorer.client")
    assert "grpc" in loaded
    assert not {"bytewax", "feast", "numba", "pandas", "river"} & loaded


def test_status_does_not_wait_for_what_a_run_imports() -> None:
    """What `status` imports, which health checks call, keeps the dataflow's frameworks out."""
    loaded = _loaded_after("import cli.main, dataflows.status, dataflows.sources.kafka_topics")
    assert "kafka" in loaded
    assert not {"bytewax", "feast", "numba", "pandas", "pyarrow", "river"} & loaded


@pytest.mark.parametrize(
    "words",
    [[verb.name] for verb in VERBS] + [["models", verb] for verb in MODEL_VERBS],
    ids=" ".join,
)
def test_every_verb_has_help_with_an_example(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """--help of a verb exits with 0 and shows a command line to begin with."""
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    assert f"headwater {' '.join(words)}" in capsys.readouterr().out.partition("Example:")[2]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nonsense"], "nonsense"),
        (["run", "--nonsense"], "--nonsense"),
        (["produce"], "topic"),
        (["apply", "--repo", "nowhere"], "nowhere"),
        (["score", "m", "novalue"], "novalue"),
        (["score", "m", "a=1", "a=2"], "'a'"),
        (["score", "m", "a:={"], "a:={"),
        (["score", "m", "--event-time", "2024-01-01T00:00:00"], "time zone"),
        (["models"], "command"),
        (["models", "promote", "m"], "version"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that is wrong in itself exits with 2 and one line that names what is."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("headwater: ")
    assert shown.err.count("\n") == 1
    assert named in shown.err


@pytest.mark.parametrize("verb", ["apply", "run", "serve", "produce", "features", "models"])
def test_a_folder_that_is_no_repository(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outside of a repository the verbs exit with 1, and make nothing there."""
    monkeypatch.chdir(tmp_path)
    more = {"produce": ["topic"], "features": ["service"], "models": ["list"]}.get(verb, [])
    with pytest.raises(SystemExit) as ended:
        main([verb, *more])
    assert ended.value.code == 1
    assert "feature_store.yaml" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_wrong_setting_is_named(
    rides: Rides, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting with a wrong value exits with 1 and one line that names it."""
    monkeypatch.setenv("HEADWATER_LOG_URL", "file://relative")
    with pytest.raises(SystemExit) as ended:
        main(["produce", "topic", "--repo", str(rides.folder)])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("headwater: HEADWATER_LOG_URL is")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """Only with --debug, which goes before the verb, is there a traceback."""
    here = Rides(tmp_path)
    assert "Traceback" not in here.headwater("models", "list").stderr
    result = here.headwater("--debug", "models", "list")
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")
    assert result.stderr.splitlines()[-1].startswith("headwater: no feature_store.yaml")


def test_our_errors_speak_for_themselves() -> None:
    """An error of ours is told by its text, in one line, also from inside of another's wrapping."""
    ours = CommandError("first\n  second")
    assert explain(ours) == "first second"
    wrapped = RuntimeError("error in a worker")
    wrapped.__cause__ = SettingsError("set it")
    root = ValueError("raised anew")
    root.__cause__ = wrapped
    wrapped.__cause__.__cause__ = root
    assert explain(root) == "set it"


def test_other_errors_are_called_defects() -> None:
    """An error that nobody foresaw is named with its type and the way to its traceback."""
    text = explain(KeyError("x"))
    assert "unexpected KeyError: 'x'" in text
    assert "headwater --debug" in text
    assert explain(FileNotFoundError(2, "No such file or directory", "f")) == (
        "f: No such file or directory"
    )
