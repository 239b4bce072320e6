"""The repository and the log of the flow's tests, loaded and made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import Summary, run_flow
from tests.flow import shop

Run = Callable[..., Summary]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The shop's definitions, compiled."""
    return load_repository(shop.make_repository(tmp_path_factory.mktemp("repository")))


@pytest.fixture(scope="session")
def records() -> list[shop.Record]:
    """Some three thousand records over four hours, in the order of writing."""
    return shop.make_records(seed=7, orders=800)


@pytest.fixture(scope="session")
def run(repository: Repository) -> Run:
    """Runs the flow in this process until the log's end."""

    def run_until_end(log: Path, out: Path, **given: Any) -> Summary:
        settings = shop.settings(repository.directory, log, out, **given)
        return run_flow(repository, settings, shop.places(out), until_end=True)

    return run_until_end


@pytest.fixture(scope="session")
def first_run(
    tmp_path_factory: pytest.TempPathFactory, records: list[shop.Record], run: Run
) -> tuple[Path, Path]:
    """The log and the output of one run over all of it; for looking at only."""
    folder = tmp_path_factory.mktemp("first")
    log = shop.write_log(folder / "log", records)
    run(log, folder / "out")
    return log, folder / "out"


@pytest.fixture
def new_log(tmp_path: Path, records: list[shop.Record]) -> Path:
    """A fresh copy of the log, since a run adds dead letters to it."""
    return shop.write_log(tmp_path / "log", records)


@pytest.fixture
def copied_run(first_run: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the first run's log and output, to go on with."""
    for source, name in zip(first_run, ("log", "out"), strict=True):
        shutil.copytree(source, tmp_path / name)
    return tmp_path / "log", tmp_path / "out"
