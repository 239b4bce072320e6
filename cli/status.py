"""`headwater status`: how far the dataflow is, how fresh the store, and which models serve."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.failures import CommandError
from cli.repository_option import RepoOption, require_repository
from cli.tables import print_table

if TYPE_CHECKING:
    from contracts.model_repository import ModelRepository
    from dataflows.status import FlowStatus

# A dataflow speaks at the end of each epoch, and whenever something comes in.
_SILENT_SECONDS_MAX = 10.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def status(
    repo: RepoOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show lag, watermark, freshness and model versions; exit 1 if no dataflow is running.

    Several processes of one dataflow are added up, from wherever their state folder can be read.
    Lag is what the log holds and the dataflow has not read. Freshness is the age of the watermark:
    the online store holds all that happened before it. When a log falls silent it grows old.
    """
    from contracts.model_repository import ModelRepository
    from contracts.settings import DataflowSettings
    from dataflows.status import flow_status

    settings = DataflowSettings.for_repo(require_repository(repo))
    flow = flow_status(settings)
    models = ModelRepository(settings.model_repository)
    report = _report(flow, models, time.time_ns() // 1000)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _show(report, max(_SILENT_SECONDS_MAX, 2 * settings.epoch_seconds))
    if not flow.is_running:
        raise CommandError(
            f"no dataflow is running on {settings.state_dir}; start one with `headwater run`"
        )


def _report(flow: FlowStatus, models: ModelRepository, now_us: int) -> dict[str, Any]:
    watermark_us, said_at_us = flow.watermark_us, flow.said_at_us
    # Nobody speaks in the future: it was another machine, or the clock was set back since.
    silent_us = None if said_at_us is None else max(0, now_us - said_at_us)
    return {
        "dataflow": {
            "running": flow.is_running,
            "pid": flow.pids[0] if flow.pids else None,
            "pids": flow.pids,
            "said_seconds_ago": None if silent_us is None else _seconds(silent_us),
            "waiting_for": flow.waiting_for,
            "events": flow.events,
            "bad": flow.bad,
            "late": flow.late,
            "labels": flow.labels,
        },
        "online_watermark": _shown(watermark_us),
        "freshness_seconds": None if watermark_us is None else _seconds(now_us - watermark_us),
        "lag": flow.lag,
        "lag_unit": flow.lag_unit,
        "log_problem": flow.log_problem,
        "partitions": [
            {
                "topic": one.topic,
                "partition": one.partition,
                "offset": one.offset,
                "end": one.end,
                "lag": one.lag,
                "newest_event_time": _shown(one.newest_us),
                "idle": one.is_idle,
            }
            for one in flow.partitions
        ],
        "models": [_model(models, name) for name in models.models()],
    }


def _model(models: ModelRepository, name: str) -> dict[str, Any]:
    """One model; a broken one does not hide the others."""
    from contracts.model_repository import ModelRepositoryError

    row: dict[str, Any] = {"model": name, "champion": None, "newest": None, "trained_until": None}
    row |= {"examples": None, "auc": None, "problem": ""}
    try:
        versions = models.versions(name)
        row["newest"] = versions[-1] if versions else None
        row["champion"] = models.channels(name).champion
        if row["champion"] is not None:
            manifest, _ = models.load(name, row["champion"])
            row["trained_until"] = _shown(manifest.trained_until_us)
            row["examples"] = manifest.examples
            row["auc"] = manifest.metrics.get("auc")
    except (ModelRepositoryError, OSError) as error:
        row["problem"] = str(error)
    return row


def _show(report: dict[str, Any], silent_seconds_max: float) -> None:
    flow = report["dataflow"]
    lag = "unknown" if report["lag"] is None else f"{report['lag']:,} {report['lag_unit']}"
    rows = [
        ("dataflow", _how(flow, silent_seconds_max)),
        ("lag", lag),
        ("online watermark", report["online_watermark"] or "not known yet"),
        ("freshness", _age(report["freshness_seconds"])),
        ("events", f"{flow['events']:,} ({flow['bad']:,} bad, {flow['late']:,} late)"),
        ("labels", f"{flow['labels']:,}"),
    ]
    if flow["waiting_for"]:
        rows.append(("waiting for", flow["waiting_for"]))
    if report["log_problem"]:
        rows.append(("log", report["log_problem"]))
    print_table(("what", "how"), rows)
    header = ("topic", "partition", "offset", "end", "lag", "newest event time", "")
    print_table(
        header,
        [
            (
                one["topic"],
                str(one["partition"]),
                f"{one['offset']:,}",
                "?" if one["end"] is None else f"{one['end']:,}",
                "?" if one["lag"] is None else f"{one['lag']:,}",
                one["newest_event_time"] or "-",
                "idle" if one["idle"] else "",
            )
            for one in report["partitions"]
        ],
    )
    print_table(
        ("model", "champion", "newest", "trained until", "examples", "AUC"),
        [
            (
                one["model"],
                one["problem"] or one["champion"] or "-",
                one["newest"] or "-",
                one["trained_until"] or "-",
                "-" if one["examples"] is None else f"{one['examples']:,}",
                "-" if one["auc"] is None else f"{one['auc']:.4f}",
            )
            for one in report["models"]
        ],
    )


def _how(flow: dict[str, Any], silent_seconds_max: float) -> str:
    """Whether the dataflow runs; one that hangs says so by its silence."""
    if not flow["running"]:
        return "not running"
    if not flow["pids"]:
        return "running, has said nothing yet"
    pids = ", ".join(map(str, flow["pids"]))
    shown, silent_seconds = f"running, pid {pids}", flow["said_seconds_ago"]
    if silent_seconds > silent_seconds_max:
        shown += f", has said nothing for {_age(silent_seconds)}"
    return shown


def _seconds(duration_us: int) -> float:
    return round(duration_us / 1e6, 3)


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "not known yet"
    if abs(seconds) < 120:
        return f"{seconds:.3f} s"
    return f"{timedelta(seconds=round(seconds))} (h:mm:ss)"


def _shown(time_us: int | None) -> str | None:
    """RFC 3339 to the microsecond; times outside the calendar (the end of a log) have none."""
    if time_us is None:
        return None
    try:
        time_utc = _EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        return None
    return time_utc.isoformat(timespec="microseconds").replace("+00:00", "Z")
