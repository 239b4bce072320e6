"""Tombstones: who was forgotten, and up to where in the log. A file beside the state folder.

Replays swap the state folder, so it cannot lie inside. It names nobody: an entity stands there as
a salted SHA-256 of its key, a row of a spine as one of the hash of its key. Who has the file can
still ask of a key that he knows whether it was forgotten.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b, sha256
from pathlib import Path

import msgspec

from contracts.durable_files import replace_file

FORMAT = 1
# Which tombstones a piece of state has heard of: of which file, and the number of the last.
Applied = tuple[str, int]
NOTHING_APPLIED: Applied = ("", 0)

_SALT_BYTES = 16
# As the state of views keeps entities that it has let go, so that these can be told too.
_KEY_DIGEST_BYTES = 16
_SPINE_DIGEST_BYTES = 16


class TombstoneError(Exception):
    """The file cannot be used; the message says what to do."""


class Tombstone(msgspec.Struct, frozen=True):
    """One entity that was forgotten.

    Attributes:
        number: rising; one that is forgotten again gets a new one.
        join_keys: names, sorted. Entities of further join keys that have these too are meant as
            well: who forgets a user forgets what the user did in a shop.
        entity: ``Tombstones.digest`` of the key.
        log: kind of the log.
        topics: topic -> its own id, where the log has such a thing.
        ends: partition (``topic/number``) -> records before this offset are ignored.
        spine_keys: model -> ``Tombstones.spine_digest`` of the entity's spine rows before these
            offsets.
        at: when, RFC 3339.
        by: who said so.
        is_done: whether everything was removed from the stores.
    """

    number: int
    join_keys: tuple[str, ...]
    entity: str
    log: str
    topics: dict[str, str]
    ends: dict[str, int]
    spine_keys: dict[str, tuple[str, ...]]
    at: str
    by: str
    is_done: bool = False


class Tombstones(msgspec.Struct, frozen=True):
    """All tombstones of a state folder, in the order of their numbers."""

    salt: str
    tombstones: tuple[Tombstone, ...] = ()
    format: int = FORMAT

    @property
    def newest(self) -> Applied:
        """What a state that knows all of them has applied."""
        return self.salt, max((one.number for one in self.tombstones), default=0)

    def after(self, applied: Applied) -> Tombstones:
        """Those that a piece of state has not heard of."""
        salt, number = applied
        known = number if salt == self.salt else 0
        newer = tuple(one for one in self.tombstones if one.number > known)
        return msgspec.structs.replace(self, tombstones=newer)

    def digest(self, entity_key: bytes) -> str:
        """How an entity stands in the file; ``entity_key`` as Feast serializes it."""
        return self.digest_of_faded(key_digest(entity_key))

    def digest_of_faded(self, digest: bytes) -> str:
        """The same of ``key_digest``."""
        return sha256(b"%sentity%s" % (bytes.fromhex(self.salt), digest)).hexdigest()

    def spine_digest(self, code: int) -> str:
        """How a spine row stands in the file; ``code`` is ``pending.key_codes`` of its key."""
        content = b"%sspine%s" % (bytes.fromhex(self.salt), code.to_bytes(8, "little"))
        return sha256(content).hexdigest()[: 2 * _SPINE_DIGEST_BYTES]

    def added(self, new: Iterable[Tombstone]) -> Tombstones:
        """With new ones, which get the next numbers; each takes the place of an older of its own.

        What the older one knew of the log that it was made for, the new one knows too.
        """
        kept = {(one.join_keys, one.entity): one for one in self.tombstones}
        number = self.newest[1]
        for one in new:
            number += 1
            older = kept.pop((one.join_keys, one.entity), None)
            kept[one.join_keys, one.entity] = msgspec.structs.replace(
                _joined(older, one), number=number
            )
        return msgspec.structs.replace(self, tombstones=tuple(kept.values()))

    def done(self, numbers: Collection[int]) -> Tombstones:
        """As they are once everything of these was removed; others may have been interrupted."""
        return msgspec.structs.replace(
            self,
            tombstones=tuple(
                msgspec.structs.replace(one, is_done=True) if one.number in numbers else one
                for one in self.tombstones
            ),
        )


def key_digest(entity_key: bytes) -> bytes:
    """Sixteen bytes for an entity key, as ``windows.names`` has them."""
    return blake2b(entity_key, digest_size=_KEY_DIGEST_BYTES).digest()


def tombstones_path(state_dir: Path) -> Path:
    """Where they lie: beside the state folder."""
    return state_dir.with_name(state_dir.name + ".tombstones.json")


def read_tombstones(state_dir: Path) -> Tombstones | None:
    """The tombstones; None if nobody was ever forgotten.

    Raises:
        TombstoneError: the file cannot be read. To go on without would bring people back.
    """
    path = tombstones_path(state_dir)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TombstoneError(f"{path}: {error.strerror}") from error
    try:
        found = msgspec.json.decode(data, type=Tombstones)
        bytes.fromhex(found.salt)
    except (msgspec.DecodeError, ValueError) as error:
        raise TombstoneError(
            f"{path} is damaged ({error}): it says who is forgotten, so put it back from a backup "
            "before anything runs"
        ) from error
    if found.format != FORMAT:
        raise TombstoneError(
            f"{path} was written by another version of Headwater (format {found.format}): run that "
            "version, or a newer one"
        )
    return found if found.tombstones else None


def write_tombstones(state_dir: Path, tombstones: Tombstones) -> None:
    """Replace the file, durably and in one step."""
    path = tombstones_path(state_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, msgspec.json.encode(tombstones))


def no_tombstones() -> Tombstones:
    """A file's content before the first: with a salt of its own."""
    return Tombstones(secrets.token_hex(_SALT_BYTES))


def _joined(older: Tombstone | None, new: Tombstone) -> Tombstone:
    if older is None:
        return new
    ends = dict(new.ends)
    if older.log == new.log:
        for name, offset in older.ends.items():
            topic = name.rpartition("/")[0]
            if older.topics.get(topic) == new.topics.get(topic):
                ends[name] = max(offset, ends.get(name, 0))
    names = older.spine_keys.keys() | new.spine_keys.keys()
    spine_keys = {
        name: _union(older.spine_keys.get(name, ()), new.spine_keys.get(name, ()))
        for name in sorted(names)
    }
    return msgspec.structs.replace(new, ends=ends, spine_keys=spine_keys)


def _union(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
