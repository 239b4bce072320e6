"""What a function does, as text, and state that another function made."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.settings import DataflowSettings
from dataflows.definitions.repository import load_repository
from dataflows.definitions.transform_code import byte_code_of, code_of
from dataflows.flow.errors import EngineError
from dataflows.flow.identity import check_identity
from dataflows.sources.plan_log import open_log
from tests.cli.rides import ROOT, Rides
from tests.definitions.functions import REPOSITORY

CHANGES = [
    (("FACTOR = 2.0", "FACTOR = 3.0"), True),
    (("math.floor(", "math.ceil("), True),
    (("[times(amount)", "[times(amount) + 0"), True),
    (('NAMES = {"b", "a"}', 'NAMES = {"b", "c"}'), True),
    (('NAMES = {"b", "a"}', 'NAMES = {"a", "b"}'), False),
    (("FACTOR = 2.0", "OTHER = 1\n\n# why\nFACTOR = 2.0"), False),
    (("def times(amount):", 'def times(amount):\n    """What it does."""\n    # and why'), False),
    (('mode="python", **given("decorated")', '**given("decorated"), mode="python"'), False),
]


@pytest.mark.parametrize(("change", "is_other"), CHANGES)
def test_what_a_function_does_is_told_from_how_it_is_written(
    tmp_path: Path, change: tuple[str, str], is_other: bool
) -> None:
    """The text of a function changes with its code and what it uses, not with its surroundings."""
    codes = []
    for name, text in (("before", REPOSITORY), ("after", REPOSITORY.replace(*change))):
        Rides(tmp_path / name).create(text)
        function = load_repository(tmp_path / name).transforms["decorated"]
        codes.append((code_of(function), byte_code_of(function)))
    assert (codes[0][0] != codes[1][0]) == is_other
    if is_other:
        assert codes[0][1] != codes[1][1]


HELD = """
import numpy as np
import pandas as pd

def plus(amount):
    return amount + 1

LISTED = [plus]
NAMED = {"plus": (plus, 1.0)}
ARRAY = np.arange(5_000)
FRAME = pd.DataFrame({"a": range(5_000)})

def listed(rows):
    return [step(amount) for amount in rows["amount"] for step in LISTED]

def named(rows):
    return [NAMED["plus"][0](amount) for amount in rows["amount"]]

def array(rows):
    return ARRAY

def frame(rows):
    return FRAME
"""


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("listed", ("amount + 1", "amount + 2")),
        ("named", ("amount + 1", "amount + 2")),
        ("array", ("np.arange(5_000)", "np.arange(5_000) + (np.arange(5_000) == 2_500)")),
        ("frame", ('"a": range(5_000)', '"a": [*range(2_500), 0, *range(2_501, 5_000)]')),
    ],
)
def test_what_a_function_uses_is_seen_wherever_it_is_held(
    tmp_path: Path, name: str, change: tuple[str, str]
) -> None:
    """Functions in lists and dicts count, and every number of an array or a frame."""
    codes = []
    for version, text in (("before", HELD), ("same", HELD), ("after", HELD.replace(*change))):
        path = tmp_path / version / "definitions.py"
        path.parent.mkdir()
        path.write_text(text)
        module = runpy.run_path(str(path))
        codes.append((code_of(module[name]), byte_code_of(module[name])))
    assert codes[0] == codes[1]
    assert codes[0][0] != codes[2][0]
    assert codes[0][1] != codes[2][1]


def test_a_code_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Neither the seed of hashes nor addresses show in a function's code."""
    Rides(tmp_path).create(REPOSITORY)
    program = (
        "import sys; from pathlib import Path\n"
        "from dataflows.definitions.repository import load_repository\n"
        "from dataflows.definitions.transform_code import byte_code_of, code_of\n"
        "functions = load_repository(Path(sys.argv[1])).transforms\n"
        "print([(code_of(functions[n]), byte_code_of(functions[n])) for n in sorted(functions)])"
    )
    # A seed is never 1 by itself here, so one process is enough beside this one.
    assert os.environ.get("PYTHONHASHSEED") != "1"
    elsewhere = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    functions = load_repository(tmp_path).transforms
    here = [(code_of(functions[n]), byte_code_of(functions[n])) for n in sorted(functions)]
    assert elsewhere == str(here)
    assert "math.floor" in elsewhere


def test_state_is_not_taken_over_by_another_function(tmp_path: Path) -> None:
    """A state folder fits a view's function as long as that does the same."""
    state = tmp_path / "state"
    state.mkdir()
    for name, text in (
        ("first", REPOSITORY),
        ("same", REPOSITORY.replace("def times(", "# why\ndef times(")),
        ("other", REPOSITORY.replace("FACTOR = 2.0", "FACTOR = 3.0")),
    ):
        Rides(tmp_path / name).create(text)
        repository = load_repository(tmp_path / name)
        settings = DataflowSettings.for_repo(tmp_path / name)
        log = open_log(settings, repository.plan)
        if name != "other":
            check_identity(repository, settings, log, state)
            continue
        with pytest.raises(EngineError, match="definitions changed since the state"):
            check_identity(repository, settings, log, state)
