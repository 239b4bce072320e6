"""Model cards and signed versions in the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.calibration_plot import Bin, calibration_svg
from contracts.evaluation_file import evaluation_file, write_evaluation
from contracts.model_card import render_card
from contracts.model_repository import CorruptVersionError, ModelRepository
from contracts.signature import Signer, Verifier
from tests.contracts.test_model_repository import manifest
from tests.contracts.test_signature import key_pair

ROOT = Path(__file__).parents[2]
FIGURES = {
    "outcomes": 400,
    "auc": 0.8125,
    "log_loss": None,
    "calibration": [
        {"from": 0.0, "to": 0.1, "outcomes": 300, "positives": 30, "score": 0.05},
        {"from": 0.9, "to": 1.0, "outcomes": 100, "positives": 90, "score": 0.95},
    ],
}
REPORT = {
    "versions": {
        "1": {
            "all": FIGURES,
            "segments": {"country": {"DE": {"outcomes": 10, "auc": 0.5}, "FR": {"outcomes": 90}}},
        }
    }
}


def test_a_card_says_what_is_known() -> None:
    """Use, task, vector, lineage, figures by segment and calibration; no figure is made up."""
    batch = replace(
        manifest(),
        intended_use="To stop payments for a look, never to refuse them.",
        lineage={
            "kind": "batch",
            "seed": "7",
            "segments": json.dumps({"shop": {"a": {"rows": 3}}}),
        },
    )
    card = render_card(batch, REPORT, None, "plot.svg")
    for line in (
        "To stop payments for a look, never to refuse them.",
        "| `DE` | 10 | 0.5 |",
        "| `FR` | 90 | – |",
        "| 0.05 | 0.1 | 300 |",
        "![Mean score against what came true](plot.svg)",
        "| `card_1h:spent` | feature | float64 | -1 |",
        "| Git commit | `abc` |",
        "| log read up to, payments/0 | `17` |",
        "| seed | `7` |",
    ):
        assert line in card, card
    assert card.index("`FR`") < card.index("`DE`")
    bare = render_card(manifest(), None, None)
    assert "Not stated." in bare
    assert "Calibration" not in bare
    assert "By segment" not in bare


def test_a_card_without_labels_speaks_of_none() -> None:
    """A detector scores a row before it learns that row; others before they learn its label."""
    card = render_card(replace(manifest(), task="anomaly"), None, None, "")
    assert "Each row was scored before it was learned." in card
    assert "label" not in card
    assert "before its label was learned" in render_card(manifest(), None, None, "")


def test_a_version_has_its_card_from_the_start(tmp_path: Path) -> None:
    """Publishing writes the card with the figures of that moment, and a plot that is XML."""
    repository = ModelRepository(tmp_path)
    write_evaluation(evaluation_file(tmp_path, "fraud", "pipeline"), "fraud", REPORT)
    repository.publish(manifest(), b"model")
    assert "| auc | 0.8125 |" in (tmp_path / "fraud" / "1" / "card.md").read_text()
    plot = ET.fromstring((tmp_path / "fraud" / "1" / "calibration.svg").read_text())
    assert len(plot.findall(".//{http://www.w3.org/2000/svg}circle")) == 2
    evaluation_file(tmp_path, "fraud", "pipeline").write_text("broken")
    repository.publish(manifest("2"), b"model")
    assert "version 2" in (tmp_path / "fraud" / "2" / "card.md").read_text()
    assert not (tmp_path / "fraud" / "2" / "calibration.svg").exists()


def test_a_value_of_two_lines_ends_no_table() -> None:
    """Values of segments are what callers send: each is one cell of one row."""
    values = {"a\nb | c": {"outcomes": 3, "auc": 0.5}}
    report = {"versions": {"1": {"all": {}, "segments": {"shop": values}}}}
    assert "| `a b \\| c` | 3 | 0.5 |" in render_card(manifest(), report, None)


def test_a_card_is_written_whatever_the_locale(tmp_path: Path) -> None:
    """Where text is not UTF-8 by default a version is published all the same."""
    code = (
        "from dataclasses import replace; from pathlib import Path; "
        "from contracts.model_repository import ModelRepository; "
        "from tests.contracts.test_model_repository import manifest; "
        "given = replace(manifest(), intended_use='F\\u00fcr Pr\\u00fcfer'); "
        f"ModelRepository(Path({str(tmp_path)!r})).publish(given, b'model')"
    )
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, env={**os.environ, **locale}, cwd=ROOT, timeout=60)
    assert "Für Prüfer" in (tmp_path / "fraud" / "1" / "card.md").read_text(encoding="utf-8")


def test_a_new_version_has_the_figures_of_those_before_it() -> None:
    """Segments and calibration of late, said to be of others; older and batch versions get none."""
    recent = {"recent": REPORT["versions"]["1"], **REPORT}
    card = render_card(manifest("2"), recent, None)
    assert "By `country`, of the dataflow's own predictions of late, with the versions just" in card
    assert "| `DE` | 10 | 0.5 |" in card
    assert "Of the dataflow's own predictions of late, with the versions just before this" in card
    assert "| 0.05 | 0.1 | 300 |" in card
    assert "How good it was since" not in card
    newer = {"recent": recent["recent"], "versions": {"3": FIGURES}}
    for version, report in (("2", newer), ("b1", recent)):
        assert "of late" not in render_card(replace(manifest(), version=version), report, None)


def test_the_default_of_a_text_is_a_code() -> None:
    """It is no amount: no separators, and a word that says what it is."""
    one = manifest()
    fields = (replace(one.schema.fields[0], dtype="string", default=7384503285560648.0),)
    card = render_card(replace(one, schema=replace(one.schema, fields=fields)), None, None)
    assert "| code 7384503285560648 |" in card


def test_dots_stay_in_the_square() -> None:
    """Extreme bins are drawn on its edge."""
    plot = ET.fromstring(calibration_svg([Bin(0.0, 1.0, 1), Bin(1.0, 0.0, 10**9)]))
    dots = plot.findall(".//{http://www.w3.org/2000/svg}circle")
    assert [(dot.get("cx"), dot.get("cy")) for dot in dots] == [
        ("40.0", "40.0"),
        ("360.0", "360.0"),
    ]


def test_only_signed_versions_are_loaded(tmp_path: Path) -> None:
    """With keys given, a version without a good signature is corrupt, and says why."""
    private, public = key_pair(tmp_path)
    root = tmp_path / "models"
    signing = ModelRepository(root, Signer.from_file(private))
    careful = ModelRepository(root, verifier=Verifier.from_file(public))
    signing.publish(manifest(), b"model")
    assert careful.load("fraud", "1") == (manifest(), b"model")
    ModelRepository(root).publish(manifest("2"), b"model")
    with pytest.raises(CorruptVersionError, match="not signed"):
        careful.load("fraud", "2")
    assert ModelRepository(root).load("fraud", "2")[0] == manifest("2")
    file = root / "fraud" / "1" / "manifest.json"
    file.write_text(file.read_text().replace('"examples": 12', '"examples": 13'))
    with pytest.raises(CorruptVersionError, match="none of the keys"):
        careful.load("fraud", "1")


def test_a_version_from_elsewhere_keeps_its_signature(tmp_path: Path) -> None:
    """Who checks takes nothing in that is not signed; nobody's signature becomes ours."""
    private, public = key_pair(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    ours = Signer.from_file(key_pair(other)[0])
    verifier = Verifier.from_file(public)
    careful = ModelRepository(tmp_path / "models", ours, verifier)
    text = manifest().to_json().encode()
    for signature in (None, ours.sign(text)):
        with pytest.raises(CorruptVersionError, match="version 1"):
            careful.take_in(manifest(), b"model", signature)
    assert careful.models() == []
    assert careful.take_in(manifest(), b"model", Signer.from_file(private).sign(text))
    assert careful.load("fraud", "1") == (manifest(), b"model")
