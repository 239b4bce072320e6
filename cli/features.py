"""`headwater features`: what the online store holds for an entity, and how old it is."""

from __future__ import annotations

import asyncio
import json
import math
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.failures import CommandError
from cli.inputs import Scalar, as_type, parse_inputs
from cli.repository_option import RepoOption, require_repository

if TYPE_CHECKING:
    from contracts.feature_schema import ValueType
    from contracts.plan import View
    from contracts.plan_file import Applied
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
    than the view's ttl, so that the scorer would take the model's default instead.
    """
    from contracts.plan_file import plan_path, read_plan

    folder = require_repository(repo)
    applied = read_plan(plan_path(folder))
    views = _views(applied, service)
    keys = _typed_keys(views, parse_inputs(entity or []))
    wanted = [_wanted(applied, service, view, keys) for view in views]
    found = asyncio.run(_read(folder, wanted))
    now_us = time.time_ns() // 1000
    cells = {}
    for view, asked, answer in zip(views, wanted, found, strict=True):
        cells.update(_cells(view, asked, answer, now_us))
    order = [f"{view}:{feature}" for view, feature in applied.services[service]]
    values = {name: cells[name] for name in order}
    typer.echo(json.dumps({"service": service, "entity": keys, "features": values}, indent=2))


def _views(applied: Applied, service: str) -> list[View]:
    """The views of a service, in order of first use."""
    if service not in applied.services:
        known = ", ".join(applied.services) or "none"
        raise CommandError(f"no feature service {service!r}; there are: {known}")
    views = {view.name: view for view in applied.plan.views}
    names = list(dict.fromkeys(view for view, _ in applied.services[service]))
    for name in names:
        if name not in views:
            raise CommandError(
                f"feature service {service!r} has {name!r}, which is no stream feature view of "
                "definitions.py; ask Feast's SDK for it"
            )
    return [views[name] for name in names]


def _typed_keys(views: list[View], given: dict[str, Scalar]) -> dict[str, str | int]:
    """Join key -> value of the type that the views have it in."""
    types = {
        name: kind
        for view in views
        for name, kind in zip(view.join_keys, view.join_key_types, strict=True)
    }
    missing = [name for name in types if name not in given]
    if missing:
        raise typer.BadParameter(f"entity key {missing[0]!r} ({types[missing[0]]}) is missing")
    unknown = [name for name in given if name not in types]
    if unknown:
        raise typer.BadParameter(
            f"unknown entity key {unknown[0]!r}; the keys are: {', '.join(types)}"
        )
    keys: dict[str, str | int] = {}
    for name, kind in types.items():
        value = as_type(given[name], kind)
        is_good = type(value) is (str if kind == "string" else int)
        if not is_good or not isinstance(value, str | int):
            raise typer.BadParameter(f"entity key {name!r} must be {kind}, not {value!r}")
        keys[name] = value
    return keys


def _wanted(applied: Applied, service: str, view: View, keys: dict[str, str | int]) -> Wanted:
    from contracts.feast_bytes import entity_key
    from scorer.online_store import wanted as want

    names = tuple(feature for name, feature in applied.services[service] if name == view.name)
    values = [keys[name] for name in view.join_keys]
    return want(view.name, names, entity_key(view.join_keys, view.join_key_types, values))


async def _read(folder: Path, wanted: list[Wanted]) -> list[Cells]:
    from scorer.online_store import open_online_store

    reader = open_online_store(folder)
    try:
        return await reader.read_cells(wanted)
    finally:
        await reader.close()


def _cells(view: View, wanted: Wanted, found: Cells, now_us: int) -> dict[str, dict[str, Any]]:
    types = {aggregate.feature: aggregate.dtype for aggregate in view.aggregates}
    time_us = found.event_time_us
    shown = None if time_us is None else _shown(time_us)
    age_us = None if time_us is None else now_us - time_us
    cells = {}
    for name, cell in zip(wanted.features, found.values, strict=True):
        full_name = f"{view.name}:{name}"
        cells[full_name] = {
            "value": _value(full_name, types[name], cell),
            "event_timestamp": shown,
            "age_seconds": None if age_us is None else age_us / 1e6,
            "expired": age_us is not None and 0 < view.ttl_us < age_us,
        }
    return cells


def _value(name: str, dtype: ValueType, cell: bytes | None) -> float | int | str | bool | None:
    """A stored value in the type that the view has it in; null, NaN and nothing are None."""
    from contracts.feast_bytes import decode_value

    try:
        value = decode_value(cell or b"")
    except ValueError as error:
        raise CommandError(f"feature {name} cannot be read: {error}") from error
    if value is None or value != value:  # NaN differs from itself
        return None
    if isinstance(value, str) or dtype == "string":
        return value
    # Feast may have written the number in another type of its own.
    if dtype == "bool":
        return bool(value)
    is_whole = dtype == "int64" and math.isfinite(value)
    return int(value) if is_whole else float(value)


def _shown(time_us: int) -> str:
    time_utc = _EPOCH + timedelta(microseconds=time_us)
    return time_utc.isoformat(timespec="microseconds").replace("+00:00", "Z")
