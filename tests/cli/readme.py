"""What the README tells people to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:50051"


def python_block(containing: str, address: str) -> str:
    """The only block of Python with this text, for a scorer at that address."""
    block = python_code(containing)
    assert ADDRESS in block
    return block.replace(ADDRESS, address)


def python_code(containing: str) -> str:
    """The only block of Python with this text."""
    blocks = re.findall(r"^```python\n(.*?)^```$", _text(), re.DOTALL | re.MULTILINE)
    (block,) = [one for one in blocks if containing in one]
    return str(block)


def command_line(program: str, address: str) -> list[str]:
    """The only command line of this program, in words, for a scorer at that address."""
    (line,) = [line for line in _text().splitlines() if line.startswith(f"{program} ")]
    words = shlex.split(line)
    assert ADDRESS in words
    return [address if word == ADDRESS else word for word in words]


def _text() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")
