"""``headwater demo``: a year of real flights through the whole path, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[
        Path, typer.Option(help="Folder for everything the demo makes; what it held is removed.")
    ] = Path("build/demo"),
    repo: Annotated[Path, typer.Option(help="Feature repository; a copy of it is run.")] = Path(
        "feature_repo"
    ),
    flights: Annotated[
        Path | None,
        typer.Option(help="Folder with other flights.csv, weather.csv and airports.csv."),
    ] = None,
) -> None:
    """Run a year of real flights through the whole path, and report."""
    from rich.console import Console

    from cli.demo.flights import files_in, installed_files
    from cli.demo.processes import DemoError
    from cli.demo.report import print_report
    from cli.demo.stage import run_demo

    files = installed_files() if flights is None else files_in(flights)
    report = run_demo(output.absolute(), repo, files, Console(stderr=True))
    print_report(report, Console(), output)
    different = report.served_vs_dataflow["different"]
    if different:
        raise DemoError(f"{different} served vectors differ from the dataflow's: this is a defect")
    if report.verified["different"]:
        raise DemoError(
            f"{report.verified['different']} served vectors differ from a replay of the log: this "
            "is a defect; `headwater verify` shows them"
        )
