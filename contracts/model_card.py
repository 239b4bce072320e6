"""A model card: what a version is, for what, how good, and where it came from, as Markdown.

Made of the version's manifest and, where there are any, of the figures that were measured since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.calibration_plot import Bin
from contracts.feature_schema import VectorField
from contracts.manifest import Manifest, learned_number

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEGMENT_VALUES_MAX = 20
_SAYS = {
    "binary": "the probability that the label is true",
    "multiclass": "the probability of the most probable class",
    "regression": "the predicted number",
    "anomaly": "how unusual the row is; higher is more so",
}
# What a segment's table shows, by task; a figure that is not there is left out.
_HEADLINES = {
    "binary": ("outcomes", "positives", "auc", "log_loss", "brier", "accuracy"),
    "multiclass": ("outcomes", "accuracy", "log_loss"),
    "regression": ("outcomes", "mae", "rmse", "bias"),
    "anomaly": ("outcomes", "auc"),
}
# Facts of the lineage that have a section of their own.
_TABLES = ("calibration", "segments", "importance")
_BEFORE = "of late, with the versions just before this one"
Figures = Mapping[str, Any]


def render_card(
    manifest: Manifest, pipeline: Figures | None, served: Figures | None, plot: str = ""
) -> str:
    """The card.

    Args:
        manifest: of the version.
        pipeline: ``evaluation_file``'s report of the dataflow's own predictions; None for none.
        served: the same of what was really served.
        plot: name of the file with the calibration plot; empty for none.
    """
    parts = [
        f"# Model card: {manifest.model}, version {manifest.version}\n",
        _section("Intended use", [manifest.intended_use or _NO_USE]),
        _section("What it says", _score(manifest)),
        _section("How good it was when it was made", _metrics(manifest)),
        _section("How good it was since", _since(manifest, pipeline, served)),
        _section("By segment", _segments(manifest, pipeline, served)),
        _section("Calibration", _calibration(manifest, pipeline, served, plot)),
        _section("What it looks at", _vector(manifest)),
        _section("Where it came from", _lineage(manifest)),
    ]
    return "\n".join(part for part in parts if part)


def calibration_of(
    manifest: Manifest, pipeline: Figures | None, served: Figures | None
) -> list[Bin]:
    """Mean scores beside what came true: as served, else of the dataflow, else of training.

    A new version of the dataflow has no labels of its own: there those of the versions just before.
    """
    slices = (_slice(served, manifest.version), _slice(pipeline, manifest.version))
    for found in (*slices, _before(manifest, pipeline)):
        figures = found.get("all", {})
        if figures.get("calibration"):
            return [Bin.of(each) for each in figures["calibration"]]
    batch = _parsed(manifest.lineage.get("calibration"))
    return [Bin(*each) for each in batch] if isinstance(batch, list) else []


_NO_USE = (
    "Not stated. Say it in the model's `intended_use` in `definitions.py`: who may use the score "
    "for what, and for what not."
)


def _section(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines) + "\n" if lines else ""


def _score(manifest: Manifest) -> list[str]:
    lines = [f"The score is {_SAYS[manifest.task]} (task `{manifest.task}`)."]
    if manifest.classes:
        lines += ["", "Classes: " + ", ".join(f"`{label}`" for label in manifest.classes) + "."]
    return lines


def _metrics(manifest: Manifest) -> list[str]:
    pairs = [(name, _figure(value)) for name, value in sorted(manifest.metrics.items())]
    how = (
        "Each row was scored before it was learned."
        if manifest.task == "anomaly"
        else "On examples held out behind those it learned from."
        if manifest.lineage.get("kind") == "batch"
        else "Each row was scored before its label was learned (progressive validation). Names "
        "with `baseline_` are of trivial predictions on the same rows."
    )
    return [how, "", *_table(("metric", "value"), pairs)] if pairs else []


def _since(manifest: Manifest, pipeline: Figures | None, served: Figures | None) -> list[str]:
    sides = {"the dataflow's own predictions": pipeline, "what was served": served}
    found = {
        name: _slice(report, manifest.version).get("all", {}) for name, report in sides.items()
    }
    found = {name: figures for name, figures in found.items() if figures}
    if not found:
        return []
    names = sorted({n for figures in found.values() for n, v in figures.items() if _is_number(v)})
    rows = [(name, *(_figure(figures.get(name)) for figures in found.values())) for name in names]
    return list(_table(("metric", *found), rows))


def _segments(manifest: Manifest, pipeline: Figures | None, served: Figures | None) -> list[str]:
    sources = {
        "what was served": _slice(served, manifest.version).get("segments"),
        "the dataflow's own predictions": _slice(pipeline, manifest.version).get("segments"),
        f"the dataflow's own predictions {_BEFORE}": _before(manifest, pipeline).get("segments"),
        "the examples held out": _parsed(manifest.lineage.get("segments")),
    }
    what, found = next(
        ((what, one) for what, one in sources.items() if isinstance(one, dict) and one), ("", {})
    )
    lines: list[str] = []
    for name, values in found.items():
        columns = [
            each
            for each in _HEADLINES[manifest.task]
            if any(_is_number(figures.get(each)) for figures in values.values())
        ]
        largest = sorted(values.items(), key=lambda pair: (-_count(pair[1]), pair[0]))
        rows = [
            (f"`{value}`", *(_figure(figures.get(each)) for each in columns))
            for value, figures in largest[:_SEGMENT_VALUES_MAX]
        ]
        lines += [f"By `{name}`, of {what}:", "", *_table((name, *columns), rows), ""]
        if len(largest) > _SEGMENT_VALUES_MAX:
            lines += [f"The {_SEGMENT_VALUES_MAX} largest of {len(largest)}.", ""]
    return lines[:-1]


def _calibration(
    manifest: Manifest, pipeline: Figures | None, served: Figures | None, plot: str
) -> list[str]:
    bins = calibration_of(manifest, pipeline, served)
    if not bins:
        return []
    rows = [(_figure(b.score), _figure(b.share), _figure(b.outcomes)) for b in bins]
    head = [f"![Mean score against what came true]({plot})", ""] if plot else []
    if _before(manifest, pipeline) and not _slice(served, manifest.version):
        head += [f"Of the dataflow's own predictions {_BEFORE}.", ""]
    return [*head, *_table(("mean score", "share that came true", "rows"), rows)]


def _vector(manifest: Manifest) -> list[str]:
    importance = _parsed(manifest.lineage.get("importance"))
    weights = importance if isinstance(importance, dict) else {}
    rows = [
        (f"`{one.name}`", one.kind, one.dtype, _default(one), _figure(weights.get(one.name)))
        for one in manifest.schema.fields
    ]
    header = ("field", "kind", "type", "default", "importance")
    if not weights:
        return list(_table(header[:-1], [row[:-1] for row in rows]))
    return list(_table(header, rows))


def _lineage(manifest: Manifest) -> list[str]:
    facts = {
        "learner": " ".join(manifest.learner.split()),
        "examples": _figure(manifest.examples),
        "trained from": _time(manifest.trained_from_us),
        "trained until": _time(manifest.trained_until_us),
        "parent": manifest.parent or "none",
        "made by": manifest.created_by,
        "Git commit": manifest.git_commit or "unknown",
        "fingerprint of the vector": manifest.fingerprint,
        "SHA-256 of the model": manifest.sha256,
        "largest difference to the learner": f"{manifest.parity['max_abs_diff']:.1e} "
        f"on {_figure(manifest.parity['rows'])} rows",
        **{name: text for name, text in manifest.lineage.items() if name not in _TABLES},
        **{f"log read up to, {name}": str(at) for name, at in sorted(manifest.offsets.items())},
    }
    return list(_table(("fact", "value"), [(name, _code(text)) for name, text in facts.items()]))


def _slice(report: Figures | None, version: str) -> Figures:
    found = (report or {}).get("versions", {}).get(version, {})
    return found if isinstance(found, dict) else {}


def _before(manifest: Manifest, pipeline: Figures | None) -> Figures:
    """The newest labels of all versions, for one of the dataflow that is newer than all of them."""
    judged = [learned_number(version) or 0 for version in (pipeline or {}).get("versions", {})]
    if (learned_number(manifest.version) or 0) <= max(judged, default=0):
        return {}
    found = (pipeline or {}).get("recent", {})
    return found if isinstance(found, dict) else {}


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        # A value of a segment is whatever callers send: a line break would end the table.
        cells = (" ".join(cell.splitlines()).replace("|", "\\|") for cell in row)
        yield "| " + " | ".join(cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`" if text and "`" not in text else text


def _default(one: VectorField) -> str:
    return f"code {one.default:.0f}" if one.dtype == "string" else _figure(one.default)


def _count(figures: Figures) -> float:
    found = figures.get("outcomes", figures.get("rows", 0))
    return float(found) if _is_number(found) else 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _figure(value: Any) -> str:
    if not _is_number(value):
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _time(time_us: int) -> str:
    try:
        return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        # A card is for people: it must not keep a version from being published.
        return f"{time_us} microseconds since 1970, which is no date"


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None
