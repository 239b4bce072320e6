"""The disk of the state folder is full: one line says so, and with room again all goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from tests.flow import shop
from tests.integration.commands import Command, wait_for
from tests.integration.conftest import NewShop
from tests.integration.real_shop import RealShop, run_on_files

pytestmark = pytest.mark.services
DISK_BYTES = 32 * 1024 * 1024
TRIES = 100
# What is left when the disk fills up: nothing at all, some pages, less than an epoch may need.
ROOM_KIB = (0, 4, 12, 24, 48, 64, 240)


@contextmanager
def _small_disk(folder: Path, without_service: Callable[[str], NoReturn]) -> Iterator[None]:
    """A file system of its own at ``folder``, as small as can be; only root can mount one."""
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True)
    if mounted.returncode != 0:
        without_service(f"the right to mount a small disk ({mounted.stderr.strip()})")
    try:
        yield
    finally:
        # Lazily: after a failure a process may be there still.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _leave_room(made: RealShop, kib: int) -> Path:
    """Fill the disk but for so much; the file that does so."""
    filler = made.settings.state_dir / "filler"
    filler.unlink(missing_ok=True)
    with filler.open("wb") as file:
        for _ in range(TRIES):  # a run may write meanwhile
            found = os.statvfs(made.settings.state_dir)
            free = found.f_bavail * found.f_frsize
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, max(free - kib * 1024, 1))
                break
    return filler


def test_a_disk_that_is_full_from_the_start(
    new_shop: NewShop,
    records: list[shop.Record],
    without_service: Callable[[str], NoReturn],
) -> None:
    """A run that finds too little room says so in one line, and begins when there is some."""
    made = new_shop()
    state = made.settings.state_dir
    expected = run_on_files(made, records)
    made.produce(records)
    with _small_disk(state, without_service):
        for kib in (0, 16, 400):
            filler = _leave_room(made, kib)
            assert f"state folder {state}: " in made.start("run").refuse()
        filler.unlink()
        made.run_to_end()
        assert made.digests() == expected.digests
        assert made.dead_letters() == expected.letters


def _has_begun(made: RealShop, command: Command) -> bool:
    return made.events(command) > 0


def test_a_disk_that_fills_up(
    new_shop: NewShop,
    records: list[shop.Record],
    without_service: Callable[[str], NoReturn],
) -> None:
    """Whichever write finds no room, the run ends with one line; with room it loses nothing."""
    made = new_shop(epoch_seconds=0.02, batch_bytes=3_000, kafka_fetch_bytes=4_000)
    state = made.settings.state_dir
    expected = run_on_files(made, records)
    size = len(records) // (2 * len(ROOM_KIB))
    said = set()
    with _small_disk(state, without_service):
        for step, kib in enumerate(ROOM_KIB):
            before, behind = 2 * step * size, 2 * (step + 1) * size
            made.produce(records[before : before + size])
            command = made.start("run")
            wait_for("a start", partial(_has_begun, made, command), command)
            filler = _leave_room(made, kib)
            made.produce(records[before + size : behind])
            # With much room it may come to the end of this piece.
            line = command.refuse()
            assert str(state) in line or "cannot write table" in line
            assert "make room" in line.lower()
            said.add(line.split("panicked", 1)[0])
            filler.unlink()
        made.produce(records[behind:])
        made.run_to_end()
        assert made.digests() == expected.digests
        assert made.dead_letters() == expected.letters
    assert len(said) > 1, said
