"""What goes wrong with data sets."""

from __future__ import annotations


class DatasetError(Exception):
    """A data set cannot be made, read or made again; the message says why and what to do."""
