"""The mirror against a real MLflow server, which runs in an environment of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from river import linear_model, preprocessing
from typer.testing import CliRunner

from cli.failures import CommandError
from cli.main import app
from cli.registry.mirror import newest_of
from contracts.evaluation_file import evaluation_file, write_evaluation
from contracts.manifest import Manifest, sha256_hex
from contracts.model_repository import ModelRepository, VersionConflictError
from contracts.signature import Signer, Verifier
from dataflows.learning.parity import score_onnx
from dataflows.river_onnx import to_onnx
from tests.contracts.test_model_repository import SCHEMA, manifest
from tests.contracts.test_signature import key_pair

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "clients-venv" / "bin" / "python"
_START_SECONDS_MAX = 240

pytestmark = pytest.mark.timeout(300)  # MLflow takes its time to start


def trained(rows: int) -> bytes:
    """A model over the two fields of the manifest's schema."""
    estimator = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    for row in np.random.default_rng(rows).normal(size=(rows, 2)).tolist():
        estimator.learn_one(dict(zip(SCHEMA.names, row, strict=True)), row[0] > 0)
    return to_onnx(estimator, SCHEMA.names)


def version(number: str, model: bytes) -> Manifest:
    """A manifest that fits the model."""
    return replace(manifest("1"), version=number, parent=None, sha256=sha256_hex(model))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running MLflow."""
    if not PYTHON.exists():
        reason = "needs build/clients-venv, which `make test` installs"
        if os.environ.get("HEADWATER_REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        str(PYTHON), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", f"{folder}/artifacts", "--serve-artifacts",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            # Nothing that the registry needs, and most of what it starts with.
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/health", process, folder / "log")
        yield address
    finally:
        os.killpg(process.pid, 9)
        process.wait(timeout=30)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS_MAX
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"MLflow did not start: {log.read_text()[-2000:]}")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model repository that commands use."""
    monkeypatch.setenv("HEADWATER_MODEL_REPOSITORY", str(tmp_path / "models"))
    return tmp_path / "models"


def run(*arguments: str) -> str:
    """What a command prints; its error if it fails."""
    found = CliRunner().invoke(app, ["mlflow", *arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def test_versions_go_there_and_come_back(
    server: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files, figures, lineage and channels are in MLflow; a pulled version is the very same."""
    import mlflow
    from mlflow import MlflowClient

    private, public = key_pair(tmp_path)
    repository = ModelRepository(root, Signer.from_file(private))
    models = {number: trained(rows) for number, rows in (("1", 5), ("2", 50), ("b1", 500))}
    for number, model in models.items():
        repository.publish(version(number, model), model)
    repository.promote("fraud", "2", "good", "test", 1)
    repository.set_channel("fraud", "challenger", "b1", "try", "test", 2)
    figures = {"outcomes": 9, "auc": 0.75, "calibration": [], "log_loss": None}
    report = {"versions": {"2": {"all": figures, "segments": {}}}}
    write_evaluation(evaluation_file(root, "fraud", "served"), "fraud", report)
    options = ["--uri", server, "--prefix", "first-"]
    assert "3 versions, 2 aliases and 2 metrics" in run("mirror", *options)
    assert "0 versions, 0 aliases and 0 metrics" in run("mirror", *options)
    client = MlflowClient(tracking_uri=server, registry_uri=server)
    entry = client.get_model_version_by_alias("first-fraud", "champion")
    assert entry.run_id is not None
    found = client.get_run(entry.run_id).data
    assert found.metrics["served.auc"] == 0.75
    assert found.metrics["auc"] == manifest().metrics["auc"]
    assert found.params["git_commit"] == "abc"
    mlflow.set_tracking_uri(server)
    loaded = mlflow.onnx.load_model("models:/first-fraud@champion")
    rows = np.random.default_rng(1).normal(size=(4, 2))
    np.testing.assert_array_equal(
        score_onnx(loaded.SerializeToString(), rows), score_onnx(models["2"], rows)
    )
    repository.set_channel("fraud", "challenger", None, "enough", "test", 4)
    repository.promote("fraud", "1", "older", "test", 5)
    assert "0 versions, 2 aliases" in run("mirror", *options)
    assert str(client.get_registered_model("first-fraud").aliases["champion"]) == str(
        client.get_model_version_by_alias("first-fraud", "champion").version
    )
    assert "challenger" not in client.get_registered_model("first-fraud").aliases
    monkeypatch.setenv("HEADWATER_MODEL_REPOSITORY", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HEADWATER_VERIFY_KEYS_FILE", str(public))
    run("pull", "fraud", "b1", *options)
    run("pull", "fraud", "@champion", "--promote", *options)
    elsewhere = ModelRepository(tmp_path / "elsewhere", verifier=Verifier.from_file(public))
    assert elsewhere.versions("fraud") == ["b1", "1"]
    assert elsewhere.load("fraud", "b1") == repository.load("fraud", "b1")
    assert elsewhere.channels("fraud").champion == "1"


def test_versions_of_either_kind_are_mirrored() -> None:
    """What was trained from a batch is not older than all that the dataflow learned."""
    versions = ["b1", "b2", "b3", *map(str, range(1, 31))]
    assert newest_of(versions, 2) == ["b2", "b3", "29", "30"]
    assert newest_of(versions, 40) == versions


def test_what_is_not_there_or_not_ours_is_refused(
    server: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what is missing; another version of a number is never overwritten."""
    repository = ModelRepository(root)
    model = trained(7)
    repository.publish(version("1", model), model)
    options = ["--uri", server, "--prefix", "second-"]
    run("mirror", *options)
    for wanted, message in (
        ("9", "no version '9'"),
        ("@champion", "no alias 'champion'"),
    ):
        with pytest.raises(Exception, match=message):
            run("pull", "fraud", wanted, *options)
    other = ModelRepository(root.parent / "other")
    different = trained(8)
    other.publish(version("1", different), different)
    monkeypatch.setenv("HEADWATER_MODEL_REPOSITORY", str(other.root))
    with pytest.raises(VersionConflictError):
        run("pull", "fraud", "1", *options)


def test_an_mlflow_that_is_gone_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is an error of one line, within the time that the client is given."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    model = trained(3)
    ModelRepository(root).publish(version("1", model), model)
    told = r"^MLflow at http://127\.0\.0\.1:9 does not answer \(ConnectionError\): is it running"
    for words in (("mirror",), ("pull", "fraud", "1")):
        with pytest.raises(CommandError, match=told):
            run(*words, "--uri", "http://127.0.0.1:9")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(CommandError, match="give --uri"):
        run("mirror")


@pytest.mark.parametrize("words", [["mirror"], ["pull", "fraud", "1"]], ids=" ".join)
def test_without_the_extra(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands say what to install; nothing of ours but they needs MLflow."""
    for name in [each for each in sys.modules if each.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("HEADWATER_MODEL_REPOSITORY", str(tmp_path / "models"))
    model = trained(3)
    ModelRepository(tmp_path / "models").publish(version("1", model), model)
    result = CliRunner().invoke(app, ["mlflow", *words, "--uri", "http://127.0.0.1:1"])
    assert isinstance(result.exception, CommandError), result.exception
    assert str(result.exception) == "MLflow's client is not installed; install headwater[mlflow]"
