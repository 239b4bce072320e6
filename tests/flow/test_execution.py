"""A flow of one worker: run in the caller's thread, and silent about its own errors."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

FLOW = """
    import sys
    from pathlib import Path
    import threading

    import bytewax.operators as op
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSink, TestingSource

    from contracts.settings import DataflowSettings
    from dataflows.flow import execution
    from dataflows.flow.run_context import Places, RunContext

    class OwnError(Exception):
        pass

    def work(number):
        if number == 50:
            raise OwnError("fifty is too much")
        return number

    flow = Dataflow("small")
    stream = op.map("work", op.input("in", flow, TestingSource(list(range(100)))), work)
    op.output("out", stream, TestingSink([]))
    state = Path(sys.argv[1])
    settings = DataflowSettings()
    places = Places(state, None, {}, state, state)
    context = RunContext(settings, places, None, threading.Event())
    execution.prepare_recovery(state)
    try:
        with execution.explained(state):
            execution.execute(flow, context)
    except BaseException as error:
        print(type(error).__name__, error, file=sys.stderr)
"""


def test_an_error_of_ours_is_all_that_is_said(tmp_path: Path) -> None:
    """No panic, no backtrace of Rust's; whoever catches the error can say it as always."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FLOW), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == "OwnError fifty is too much\n"


def said_by(program: str) -> str:
    """What a program leaves on its standard error."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr


def test_hushed_from_an_error_on() -> None:
    """Where Python and Rust share a descriptor, nothing before the error is lost."""
    said = said_by("""
        import os
        from dataflows.flow.hush import Hush
        try:
            with Hush() as hush:
                os.write(2, b"before ")
                hush.begin(ValueError())
                os.write(2, b"panicked at between ")
                hush.begin(ValueError())
                raise ValueError
        except ValueError:
            os.write(2, b"after")
    """)
    assert said == "before after"


def test_apart_python_is_heard_and_nothing_else_until_the_end() -> None:
    """What others write comes at the end of a flow that ends well, and not after an error."""
    said = said_by("""
        import os, sys
        from dataflows.flow.hush import Hush, speak_apart
        speak_apart()
        speak_apart()
        with Hush():
            os.write(2, b"1 Rust\\n")
            sys.stderr.write("2 Python\\n")
        try:
            with Hush():
                os.write(2, b"thread panicked at 3\\n")
                sys.stderr.write("4 Python\\n")
                raise ValueError
        except ValueError:
            os.write(2, b"5 Rust\\n")
    """)
    assert said.splitlines() == ["2 Python", "1 Rust", "4 Python", "5 Rust"]
