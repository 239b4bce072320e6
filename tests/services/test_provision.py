"""What is installed where, and what is said where it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.services import provision
from tests.services.provision import MissingServiceError

APT_GET = """#!/bin/sh
echo "$@" >> {folder}/asked
case "$1" in
update) touch {folder}/updated ;;
install)
    test -e {folder}/updated || {{ echo "E: Unable to locate package"; exit 100; }}
    for program in java mvn redis-server; do
        printf '#!/bin/sh\\necho openjdk version \\\\"%s\\\\" >&2\\n' {java} > {folder}/$program
        chmod +x {folder}/$program
    done ;;
esac
"""


def _machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, java: str = "17.0.1", user: int = 0
) -> Path:
    """A machine that has nothing but apt-get; gives the file with what apt-get was asked for."""
    for program in ("touch", "chmod"):
        (folder / program).symlink_to(f"/bin/{program}")
    apt_get = folder / "apt-get"
    apt_get.write_text(APT_GET.format(folder=folder, java=java))
    apt_get.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(provision, "SERVICES", folder / "services")
    return folder / "asked"


def test_root_gets_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """apt-get is asked once more after an update, and not again when all is there."""
    asked = _machine(tmp_path, monkeypatch)
    provision.install_programs()
    install = "install -y --no-install-recommends default-jre-headless maven redis-server"
    assert asked.read_text().splitlines() == [install, "update", install]
    provision.install_programs()
    assert len(asked.read_text().splitlines()) == 3
    assert provision.redis_program() == str(tmp_path / "redis-server")
    assert provision.java_program() == str(tmp_path / "java")


def test_others_are_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root nothing is installed, and each error names the package."""
    asked = _machine(tmp_path, monkeypatch, user=1000)
    provision.install_programs()
    assert not asked.exists()
    with pytest.raises(MissingServiceError, match="apt-get install redis-server"):
        provision.redis_program()
    with pytest.raises(MissingServiceError, match="apt-get install default-jre-headless"):
        provision.kafka_jars()


def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Java that is too old for Kafka is named with its version."""
    _machine(tmp_path, monkeypatch, java="1.8.0_392")
    provision.install_programs()
    with pytest.raises(MissingServiceError, match=r"Java 17 or newer.*1\.8\.0_392"):
        provision.kafka_jars()


def test_jars_that_do_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When Maven fails its last words are shown, and no half-filled folder is left."""
    _machine(tmp_path, monkeypatch)
    provision.install_programs()
    (tmp_path / "mvn").write_text("#!/bin/sh\necho no network; exit 1\n")
    with pytest.raises(MissingServiceError, match="cannot get Kafka's jars: exit 1\nno network"):
        provision.kafka_jars()
    assert [path for path in (tmp_path / "services").rglob("*") if path.is_file()] == []
    assert list((tmp_path / "services").glob("kafka-*/*")) == []
