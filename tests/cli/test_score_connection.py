"""`headwater score` and the way to the scorer: TLS, certificates, tokens, what goes wrong there."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from cli.main import main
from contracts.settings import PREFIX
from scorer.v1 import scorer_pb2
from tests.scorer.credentials import Identity, authority
from tests.scorer.scripted import Script, scripted

SECRET = "eyJ.secret.token"


@pytest.fixture(scope="module")
def root() -> Identity:
    """Who signs certificates here."""
    return authority()


@pytest.fixture
def script() -> Script:
    """A scorer with one model and one score."""
    about = scorer_pb2.GetModelResponse(model="m", version="1")
    about.inputs.add(name="a", type="float64")
    return Script(answers={"GetModel": about})


def score(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str, **given: str) -> int:
    """The exit code of `headwater score m WORDS` with these settings."""
    for name, text in given.items():
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", text)
    with pytest.raises(SystemExit) as ended:
        main(["score", "m", *words, "--repo", str(folder)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository."""
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    return tmp_path


def server_credentials(
    root: Identity, client_ca: bytes | None = None, name: str = "127.0.0.1"
) -> grpc.ServerCredentials:
    """For this address or name; with ``client_ca`` callers must have a certificate."""
    identity = root.signs("scorer", name)
    pair = (identity.key_pem, identity.certificate_pem)
    return grpc.ssl_server_credentials([pair], client_ca, client_ca is not None)


def test_the_environment_says_how_to_connect(
    script: Script,
    root: Identity,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The CA, our certificate and the token come from the environment; the token is not shown."""
    (folder / "ca.pem").write_bytes(root.certificate_pem)
    cert_file, key_file = root.signs("ann").write(folder, "ann")
    with scripted(script, server_credentials(root, root.certificate_pem)) as address:
        code = score(
            monkeypatch,
            folder,
            "a=1",
            scorer_address=address,
            scorer_ca_file=str(folder / "ca.pem"),
            scorer_cert_file=cert_file,
            scorer_key_file=key_file,
            scorer_token=SECRET,
        )
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert json.loads(shown.out)["score"] == 0.5
    assert [came.metadata["authorization"] for came in script.came] == [f"Bearer {SECRET}"] * 2
    assert SECRET not in shown.out + shown.err


def test_what_is_wrong_with_the_connection_is_told(
    script: Script,
    root: Identity,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line says which setting to look at; a token never goes into the open."""
    (folder / "other.pem").write_bytes(authority("other").certificate_pem)
    with scripted(script, server_credentials(root)) as address:
        assert score(monkeypatch, folder, "a=1", scorer_address=address) == 1
        assert "HEADWATER_SCORER_TLS=true" in capsys.readouterr().err
        other = str(folder / "other.pem")
        assert score(monkeypatch, folder, "a=1", scorer_ca_file=other) == 1
        assert "HEADWATER_SCORER_CA_FILE" in capsys.readouterr().err
    assert score(monkeypatch, folder, "a=1", scorer_ca_file=str(folder / "no.pem")) == 1
    assert "no.pem" in capsys.readouterr().err
    far = {"scorer_ca_file": "", "scorer_address": "10.0.0.1:50051", "scorer_token": SECRET}
    assert score(monkeypatch, folder, "a=1", **far) == 1
    told = capsys.readouterr().err
    assert "without TLS" in told
    assert SECRET not in told


def test_a_certificate_for_another_name_is_told_apart(
    script: Script,
    root: Identity,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A trusted certificate of another name asks for the address to be changed, not for the CA."""
    (folder / "ca.pem").write_bytes(root.certificate_pem)
    ca_file = str(folder / "ca.pem")
    with scripted(script, server_credentials(root, name="scorer.internal")) as address:
        code = score(monkeypatch, folder, "a=1", scorer_address=address, scorer_ca_file=ca_file)
    assert code == 1
    assert "set HEADWATER_SCORER_ADDRESS to a name" in capsys.readouterr().err
