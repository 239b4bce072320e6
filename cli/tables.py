"""Tables for people on a terminal, and lines for programs that read a pipe."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def print_table(header: tuple[str, ...], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; into a pipe, one line for each row with tabs between the cells."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        for row in (header, *rows):
            typer.echo("\t".join(row))
        return
    table = Table(*header, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    console.print(table)
