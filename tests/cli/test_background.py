"""What ``headwater run &`` draws on the terminal of its shell."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

# In a session with this terminal: asks in front, then for a child in a group of its own.
_ASK = """
import os, sys
from rich.console import Console
from cli.run_progress import has_terminal

answers = [has_terminal(Console(file=sys.stderr))]
begin, end = os.pipe()
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    os.write(end, b"%d" % has_terminal(Console(file=sys.stderr)))
    os._exit(0)
os.waitpid(child, 0)
answers.append(os.read(begin, 1) == b"1")
print(*answers)
"""


def test_a_job_in_the_background_has_no_bar() -> None:
    """The process in front of a terminal draws a bar; a job behind the prompt does not."""
    master, terminal = pty.openpty()
    try:
        done = subprocess.run(
            ["setsid", "--ctty", "--wait", sys.executable, "-c", _ASK],
            stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, timeout=60, check=True,
        )  # fmt: skip
    finally:
        os.close(terminal)
        os.close(master)
    assert done.stdout.split() == [b"True", b"False"]


@pytest.mark.parametrize("force", ["", "1"])
def test_a_file_has_no_bar_unless_it_is_forced(force: str) -> None:
    """Without a terminal there is no bar, but for FORCE_COLOR, which rich takes for one."""
    code = (
        "import sys\nfrom rich.console import Console\nfrom cli.run_progress import has_terminal\n"
        "print(has_terminal(Console(file=sys.stderr)))"
    )
    settings = {**os.environ, "FORCE_COLOR": force}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=settings, capture_output=True, start_new_session=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(bool(force)).encode()
