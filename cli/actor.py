"""Who gives a command, for the audit file."""

from __future__ import annotations

import getpass
import os


def actor() -> str:
    """The name of the user, or the number of one without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return f"uid {os.getuid()}"
