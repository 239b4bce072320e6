"""Moments on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer
from typer.testing import CliRunner

from cli.moments import TIME_FORMS, micros

NOON_US = int(datetime(2013, 7, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize("text", ["2013-07-01T12:00:00", "2013-07-01T12:00:00Z"])
def test_a_moment_is_in_utc_with_and_without_z(text: str) -> None:
    """`dataset build` and `train` take a moment as `verify` and `replay` show it, with Z."""
    app = typer.Typer()

    @app.command()
    def ask(moment: datetime = typer.Option(formats=TIME_FORMS)) -> None:  # noqa: B008
        typer.echo(micros(moment))

    result = CliRunner().invoke(app, ["--moment", text])

    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(NOON_US)
