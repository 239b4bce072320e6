"""Moments as people write them on a command line: in UTC, to the second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

TIME_FORMS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]
FromOption = Annotated[
    datetime | None,
    typer.Option(
        "--from", formats=TIME_FORMS, metavar="TIME", help="Predictions from this moment on, UTC."
    ),
]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime | None) -> int | None:
    """Microseconds since 1970 of a moment in UTC, which has no time zone yet."""
    return None if moment is None else (moment.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def shown(time_us: int) -> str:
    """A moment for people, to the second."""
    return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%d %H:%M:%S}"
