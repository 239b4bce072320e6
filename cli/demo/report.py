"""What the demo found: as JSON, as a table, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table

from cli.demo.batch import BatchReport
from cli.demo.comparison import Comparison
from cli.demo.player import Served
from contracts.manifest import learned_number
from contracts.model_repository import ModelRepository
from dataflows.learning.auc import exact_auc

US_PER_DAY = 86_400_000_000
JULY_1_US = 1_372_636_800_000_000
ROLLING_DAYS = 14
_DECISIONS = {"promote": "promoted", "rollback": "rolled back", "none": "not decided"}


@dataclass(frozen=True)
class Outcomes:
    """Labelled predictions of one model, in the order of prediction."""

    keys: npt.NDArray[np.object_]
    times_us: npt.NDArray[np.int64]
    labels: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64]
    rates: npt.NDArray[np.float64]
    lasts: npt.NDArray[np.float64]

    @classmethod
    def read(cls, folder: Path) -> Outcomes:
        """All outcomes that the dataflow wrote."""
        table = ds.dataset(folder).to_table().sort_by("event_timestamp")
        names = ("label", "score", "baseline_rate", "baseline_last")
        columns = [table[name].to_numpy() for name in names]
        times_us = table["event_timestamp"].to_numpy().astype("datetime64[us]").astype(np.int64)
        return cls(table["flight_id"].to_numpy(), times_us, *columns)

    def without(self, keys: Collection[str]) -> Outcomes:
        """The outcomes of all other flights."""
        kept = np.array([key not in keys for key in self.keys], dtype=np.bool_)
        return Outcomes(
            self.keys[kept],
            self.times_us[kept],
            self.labels[kept],
            self.scores[kept],
            self.rates[kept],
            self.lasts[kept],
        )

    def auc(self, scores: npt.NDArray[np.float64], from_us: int, until_us: int) -> float | None:
        """Exact AUC over predictions made in ``[from_us, until_us)``; None if not defined."""
        first, last = np.searchsorted(self.times_us, (from_us, until_us))
        return exact_auc(self.labels[first:last], scores[first:last])


@dataclass(frozen=True)
class Report:
    """The content of ``report.json``.

    ``auc`` is over predictions from July on; ``auc_before_departure`` over those of flights that
    had not left yet. More than half leave early, and what is known of a flight that has left makes
    it easier to tell whether it will be late.

    ``batch`` is of a model that was trained on the first half of the year. ``verified`` counts
    served rows by what a replay of the log says of them.
    """

    events: int
    flights: int
    events_per_second: float
    auc: dict[str, float | None]
    auc_before_departure: dict[str, float | None]
    online_examples: int
    versions_published: int
    versions_served: int
    scores: int
    score_p50_ms: float
    score_p99_ms: float
    onnx_parity_max_abs_diff: float
    served_vs_dataflow: dict[str, int]
    waited: dict[str, int]
    verified: dict[str, int]
    seconds: float
    batch: BatchReport


def area(online: Outcomes, static: Outcomes) -> dict[str, float | None]:
    """AUC from July on: the online model, the same learner without features, and a baseline.

    The baseline is the better one of the base rate and the last label.
    """
    end_us = int(online.times_us[-1]) + 1 if len(online.times_us) else 0
    trivial = [online.auc(scores, JULY_1_US, end_us) for scores in (online.rates, online.lasts)]
    return {
        "baseline": max((found for found in trivial if found is not None), default=None),
        "static": static.auc(static.scores, JULY_1_US, end_us),
        "online": online.auc(online.scores, JULY_1_US, end_us),
    }


def learned_versions(repository: ModelRepository) -> int:
    """How many versions the dataflow has published, of all models."""
    versions = [v for model in repository.models() for v in repository.versions(model)]
    return sum(learned_number(version) is not None for version in versions)


def parity_max(repository: ModelRepository) -> float:
    """The largest difference between an ONNX version and River, over all versions."""
    return max(
        (
            float(repository.load(model, version)[0].parity["max_abs_diff"])
            for model in repository.models()
            for version in repository.versions(model)
        ),
        default=0.0,
    )


def latency_ms(served: Sequence[Served], percentile: float) -> float:
    """A percentile of the latencies, milliseconds."""
    if not served:
        return 0.0
    return round(float(np.percentile([one.latency_ms for one in served], percentile)), 3)


def counts(comparison: Comparison) -> dict[str, int]:
    """The comparison's numbers."""
    return {k: v for k, v in asdict(comparison).items() if k != "examples"}


def write_json(report: Report, path: Path) -> None:
    """Write ``report.json``."""
    path.write_text(json.dumps(asdict(report), indent=2) + "\n")


def print_report(report: Report, console: Console, folder: Path) -> None:
    """Print what a person wants to know."""
    table = Table(
        title="A year of flights out of New York", show_header=False, title_justify="left"
    )
    for label, value in _lines(report):
        table.add_row(label, value)
    console.print(table)
    console.print(f"Report: {folder / 'report.json'}   Picture: {folder / 'auc.png'}")


def _lines(report: Report) -> list[tuple[str, str]]:
    auc, still = _shown(report.auc), _shown(report.auc_before_departure)
    same = report.served_vs_dataflow
    waited, verified = report.waited, report.verified
    return [
        ("Flights", f"{report.flights:,} ({report.events:,} events of four topics)"),
        ("Dataflow", f"{report.events_per_second:,.0f} events per second, learning included"),
        ("Learned", f"{report.online_examples:,} flights, each predicted before it was learned"),
        ("AUC Jul-Dec, trivial baseline", auc["baseline"]),
        ("AUC Jul-Dec, schedule only", auc["static"]),
        ("AUC Jul-Dec, with fresh features", f"[bold]{auc['online']}[/bold]"),
        (
            "The same, flights not yet gone",
            f"{still['online']} with fresh features, {still['static']} schedule only",
        ),
        (
            "Model versions",
            f"{report.versions_published} published, {report.versions_served} of them seen by "
            "the client without a pause",
        ),
        ("ONNX against River", f"{report.onnx_parity_max_abs_diff:.1e} largest difference"),
        (
            "Scores over gRPC",
            f"{report.scores:,}; p50 {report.score_p50_ms:.2f} ms, "
            f"p99 {report.score_p99_ms:.2f} ms",
        ),
        (
            "Served = dataflow, waiting",
            f"{waited['equal']:,} of {waited['compared']:,} equal",
        ),
        (
            "Served = dataflow, in all",
            f"{same['equal']:,} equal, {same['stale']:,} stale, {same['different']:,} different",
        ),
        (
            "Served = the log, replayed",
            f"{verified['equal']:,} equal, {verified['stale']:,} stale, "
            f"{verified['different']:,} different of {verified['compared']:,} (headwater verify)",
        ),
        *_batch_lines(report.batch),
        ("Took", f"{report.seconds:.0f} seconds"),
    ]


def _batch_lines(batch: BatchReport) -> list[tuple[str, str]]:
    if batch.trained is None:
        return [("Batch training", f"skipped: {batch.skipped}")]
    trained, rollout = batch.trained, batch.rollout
    auc = _shown({"all": trained.auc, "still": trained.auc_before_departure})
    lines = [
        (
            "AUC Jul-Dec, batch training",
            f"[bold]{auc['all']}[/bold], flights not yet gone {auc['still']}; LightGBM, "
            f"{trained.examples:,} flights until June, {trained.seconds:.0f} s",
        )
    ]
    if rollout is not None:
        shares = ", ".join(f"{share:.0%}" for share in rollout.steps) or "none"
        lines.append(
            (
                "Champion against challenger",
                f"{rollout.champion} (batch) against {rollout.challenger} (online), shares "
                f"{shares}: {rollout.challenger} [bold]{_DECISIONS[rollout.decision]}[/bold] after "
                f"{rollout.labels:,} labels in {rollout.days:.1f} days",
            )
        )
    return lines


def _shown(auc: dict[str, float | None]) -> dict[str, str]:
    return {name: "n/a" if value is None else f"{value:.4f}" for name, value in auc.items()}


def draw(online: Outcomes, static: Outcomes, path: Path) -> None:
    """Draw the rolling AUC over the year."""
    # Only the demo needs a drawing library, and only here.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), dpi=120)
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    curves = [
        (online, online.scores, "with fresh features", "tab:blue"),
        (static, static.scores, "same learner, schedule only", "tab:orange"),
        (online, online.lasts, "last label", "tab:gray"),
    ]
    for outcomes, scores, label, colour in curves:
        days, values = _rolling(outcomes, scores)
        axes.plot(days, values, label=label, color=colour)
    axes.set_ylabel(f"AUC of the last {ROLLING_DAYS} days")
    axes.set_title("Late by over 15 minutes? Predicted at scheduled departure, learned at arrival")
    axes.set_ylim(0.45, 1.0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper left", ncols=3)
    figure.tight_layout()
    figure.savefig(path)


def _rolling(
    outcomes: Outcomes, scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.datetime64], list[float]]:
    if not len(outcomes.times_us):
        return np.empty(0, "datetime64[D]"), []
    first, last = (int(outcomes.times_us[i]) // US_PER_DAY for i in (0, -1))
    days, values = [], []
    for day in range(first + ROLLING_DAYS, last + 1):
        found = outcomes.auc(scores, (day - ROLLING_DAYS) * US_PER_DAY, day * US_PER_DAY)
        if found is not None:
            days.append(day)
            values.append(found)
    return np.array(days, dtype="datetime64[D]"), values
