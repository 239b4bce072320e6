"""`headwater features`: what the online store holds for an entity, and how old it is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.inputs import Scalar, as_type, parse_inputs
from cli.repository_option import RepoOption, require_repository

if TYPE_CHECKING:
    from contracts.feature_schema import ValueType
    from scorer.catalogue import StoredFeature
    from scorer.online_store import Cells, Wanted

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def features(
    service: Annotated[str, typer.Argument(help="Name of a feature service.")],
    entity: Annotated[
        list[str] | None, typer.Argument(metavar="key=value…", show_default=False)
    ] = None,
    repo: RepoOption = None,
) -> None:
    """Show the online values of an entity and their age, as JSON.

    A value is null if it is null, or if the entity has no row. "expired" says that the row is older
    than the view's ttl, so that the scorer would take the model's default instead. "not_stored"
    names features that are computed for each request (on-demand views), or not by the dataflow.
    """
    from contracts.plan_file import plan_path, read_plan
    from scorer.catalogue import Catalogue

    folder = require_repository(repo)
    asked, others = Catalogue(read_plan(plan_path(folder))).stored_of(service)
    keys = _typed_keys(asked.key_types, parse_inputs(entity or []))
    wanted = [one for read in asked.reads if (one := read.wanted(keys)) is not None]
    found = asyncio.run(_read(folder, wanted))
    now_us = time.time_ns() // 1000
    cells = {}
    for read, answer in zip(asked.reads, found, strict=True):
        for place, position in enumerate(read.positions):
            cells[position] = _cell(asked.columns[position], answer, place, now_us)
    values = {one.name: cells[position] for position, one in enumerate(asked.columns)}
    shown: dict[str, Any] = {"service": service, "entity": keys, "features": values}
    if others:
        shown["not_stored"] = others
    typer.echo(json.dumps(shown, indent=2))


def _typed_keys(
    types: Mapping[str, tuple[ValueType, ...]], given: dict[str, Scalar]
) -> dict[str, str | int]:
    """Join key -> value of the type that the views have it in."""
    missing = [name for name in types if name not in given]
    if missing:
        raise typer.BadParameter(f"entity key {missing[0]!r} ({types[missing[0]][0]}) is missing")
    unknown = [name for name in given if name not in types]
    if unknown:
        raise typer.BadParameter(
            f"unknown entity key {unknown[0]!r}; the keys are: {', '.join(types)}"
        )
    keys: dict[str, str | int] = {}
    for name, (kind, *_) in types.items():
        value = as_type(given[name], kind)
        is_good = type(value) is (str if kind == "string" else int)
        if not is_good or not isinstance(value, str | int):
            raise typer.BadParameter(f"entity key {name!r} must be {kind}, not {value!r}")
        keys[name] = value
    return keys


async def _read(folder: Path, wanted: list[Wanted]) -> list[Cells]:
    from scorer.online_store import open_online_store

    reader = open_online_store(folder)
    try:
        return await reader.read_cells(wanted)
    finally:
        await reader.close()


def _cell(feature: StoredFeature, found: Cells, place: int, now_us: int) -> dict[str, Any]:
    from scorer.catalogue import stored_value

    time_us = found.event_time_us
    age_us = None if time_us is None else now_us - time_us
    return {
        "value": stored_value(feature, found.values[place]),
        "event_timestamp": None if time_us is None else _shown(time_us),
        "age_seconds": None if age_us is None else age_us / 1e6,
        "expired": age_us is not None and 0 < feature.ttl_us < age_us,
    }


def _shown(time_us: int) -> str:
    time_utc = _EPOCH + timedelta(microseconds=time_us)
    return time_utc.isoformat(timespec="microseconds").replace("+00:00", "Z")
