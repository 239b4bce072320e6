"""Where the descriptors of other projects' protocols live, apart from protobuf's default pool.

The same full names are in the stubs of tritonclient, KServe and Feast, and one pool holds a name
only once: a process that imports ours and theirs would fail. So ``make stubs`` puts this module in
the place of ``google.protobuf.descriptor_pool`` in the stubs below this folder. Messages of the two
pools have the same bytes but are different classes: also ``Timestamp`` here is not the one of
``google.protobuf.timestamp_pb2``. Set it in place (``message.time.FromMicroseconds(...)``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pool import DescriptorPool

_POOL = DescriptorPool()
# What protocols import from protobuf itself.
_POOL.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)


def Default() -> DescriptorPool:  # noqa: N802 - the stubs call it so
    """The pool of all foreign protocols."""
    return _POOL


class File(Protocol):
    """A file descriptor: protobuf's stubs have one type of it for each implementation."""

    @property
    def name(self) -> str:
        """Its path."""
        ...

    @property
    def serialized_pb(self) -> bytes:
        """Its ``FileDescriptorProto``."""
        ...

    @property
    def dependencies(self) -> Sequence[File]:
        """What it imports."""
        ...


def pool_of(*files: File) -> DescriptorPool:
    """A new pool with these files and all that they import, whichever pool they come from.

    Server reflection takes one pool; the services that we show live in two.
    """
    pool = DescriptorPool()
    added: set[str] = set()
    for file in files:
        _add(pool, file, added)
    return pool


def _add(pool: DescriptorPool, file: File, added: set[str]) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for imported in file.dependencies:
        _add(pool, imported, added)
    pool.AddSerializedFile(file.serialized_pb)
