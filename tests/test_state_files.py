"""State in files: what a handle stands for comes back, whatever was written after it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows import state_files
from dataflows.state_files import HANDLES_KEPT, Handle, StateError, StateFiles, Turn

STEPS = st.lists(st.sampled_from(["base", "changes", "changes", "back", "back far"]), max_size=25)


@settings(max_examples=60)
@given(STEPS)
def test_each_handle_that_can_come_back_is_whole(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """Resuming from any of the newest handles gives its base and changes, and what follows too."""
    folder = tmp_path_factory.mktemp("state")
    files = StateFiles(folder, None)
    # Newest last: handle, and what it stands for.
    known: list[tuple[Handle, list[Any]]] = []
    for number, step in enumerate(steps):
        if step.startswith("back") and known:
            known = known[: -1 if step == "back far" and len(known) > 1 else None]
            handle, wanted = known[-1]
            files = StateFiles(folder, handle)
            found = files.read()
            assert [one["n"] for one in found] == wanted
            assert all((one["a"] == one["n"]).all() for one in found)
            # From here on only what is written now may come back.
            known = known[-1:]
            continue
        data = {"n": number, "a": np.full(number, number)}
        if step == "changes" and files.has_base:
            handle = files.write_changes(data)
            known.append((handle, [*known[-1][1], number]))
        else:
            known.append((files.write_base(data), [number]))
        known = known[-HANDLES_KEPT:]
    wanted_files = {number for handle, _ in known for number in handle}
    assert {int(path.stem) for path in folder.glob("*.state")} >= wanted_files
    for handle, wanted in reversed(known):
        assert [one["n"] for one in StateFiles(folder, handle).read()] == wanted


def test_files_that_no_handle_names_go(tmp_path: Path) -> None:
    """A base makes what was before it needless, three handles later; nothing is left over."""
    files = StateFiles(tmp_path, None)
    files.write_base(0)
    for number in range(1, 5):
        files.write_changes(number)
    assert len(list(tmp_path.iterdir())) == 5
    handles = [files.write_base("all"), files.write_changes("a"), files.write_changes("b")]
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == list(handles[-1])
    # Leftovers of a run that was killed go too.
    again = StateFiles(tmp_path, handles[0])
    assert len(list(tmp_path.iterdir())) == 1
    assert again.read() == ["all"]


def test_large_files_go_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of folders that end their epochs together each removes its large files at another one."""
    monkeypatch.setattr(state_files, "_LARGE_BYTES_MIN", 10_000)
    folders = [tmp_path / str(number) for number in range(3)]
    all_files = [
        StateFiles(folder, None, Turn(number, len(folders)))
        for number, folder in enumerate(folders)
    ]
    for files in all_files:
        files.write_base(np.zeros(10_000))
        files.write_base(0)
    gone_at: dict[int, int] = {}
    for epoch in range(3, 9):
        for number, files in enumerate(all_files):
            files.write_base(epoch)
            names = {path.stem for path in folders[number].iterdir()}
            assert len(names - {"0000000001"}) <= HANDLES_KEPT, "a small file stays"
            if "0000000001" not in names:
                gone_at.setdefault(number, epoch)
    assert gone_at == {0: 6, 1: 4, 2: 5}


def test_arrays_that_were_read_can_be_changed(tmp_path: Path) -> None:
    """Arrays come back as they were, of any type, empty ones too, and can be written to."""
    arrays = [np.arange(5), np.zeros((3, 0)), np.array([b"ab", b"c"]), np.array([True, False])]
    handle = StateFiles(tmp_path, None).write_base(arrays)
    (found,) = StateFiles(tmp_path, handle).read()
    for new, old in zip(found, arrays, strict=True):
        assert new.dtype == old.dtype
        assert new.tolist() == old.tolist()
        new[:1] = old[:1]


@pytest.mark.parametrize("at", [0, 5, 9, 20, -1])
def test_a_damaged_file_is_told(tmp_path: Path, at: int) -> None:
    """One bit that fell over anywhere, or a file that is cut short, is an error that says so."""
    handle = StateFiles(tmp_path, None).write_base(["text", np.arange(100)])
    (path,) = tmp_path.glob("*.state")
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[at] ^= 1
    for content in (bytes(damaged), whole[:-1], whole[:7], b""):
        path.write_bytes(content)
        with pytest.raises(StateError, match=r"damaged; rebuild the state with `headwater replay`"):
            StateFiles(tmp_path, handle).read()


def test_a_file_in_the_place_of_another_is_told(tmp_path: Path) -> None:
    """Two shards' files that were exchanged, or two of one shard, are damage; a move is none."""
    handles = {}
    for shard in ("0000", "0001"):
        files = StateFiles(tmp_path / "shards" / shard, None)
        files.write_base(shard)
        handles[shard] = files.write_changes("more")
    copied = (tmp_path / "shards").rename(tmp_path / "moved").rename(tmp_path / "shards")
    assert StateFiles(copied / "0001", handles["0001"]).read() == ["0001", "more"]
    first, second = sorted((copied / "0000").glob("*.state"))
    others = sorted((copied / "0001").glob("*.state"))
    whole = first.read_bytes()
    for one in (others[0], second):
        first.write_bytes(one.read_bytes())
        with pytest.raises(StateError, match="is damaged"):
            StateFiles(copied / "0000", handles["0000"]).read()
    first.write_bytes(whole)
    (copied / "0000" / "copy of 1.state").write_bytes(whole)
    assert StateFiles(copied / "0000", handles["0000"]).read() == ["0000", "more"]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A handle whose file is gone is an error that names the folder."""
    handle = StateFiles(tmp_path, None).write_base("x")
    next(tmp_path.glob("*.state")).unlink()
    with pytest.raises(StateError, match=r"No such file.*headwater replay"):
        StateFiles(tmp_path, handle)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is no room the error says what to do, and the handle before is still good."""
    files = StateFiles(tmp_path, None)
    handle = files.write_base("before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(StateError, match="No space left on device; make room"):
            files.write_changes("after")
    assert StateFiles(tmp_path, handle).read() == ["before"]


def test_a_base_is_wanted_when_changes_outgrow_it(tmp_path: Path) -> None:
    """Changes as large as the base, or very many, ask for a new one; small ones do not."""
    files = StateFiles(tmp_path, None)
    files.write_base(np.zeros(100_000))
    assert not files.wants_base
    files.write_changes(np.zeros(60_000))
    assert not files.wants_base
    files.write_changes(np.zeros(60_000))
    assert files.wants_base
    assert StateFiles(tmp_path, (1, 2, 3)).wants_base
    files.write_base(0)
    assert not files.wants_base
    for _ in range(64):
        files.write_changes(0)
    assert files.wants_base
