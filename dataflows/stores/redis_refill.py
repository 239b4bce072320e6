"""Puts gathered values in the place of those that Redis holds, so that no reader sees a mixture.

A reader takes the hashes of several entities in one go, which Redis answers in one go too. So the
new hashes, whole, with the fields of views that are not refilled, are laid down under other names
first, and then all renamed in one script, which sets the mark as well. Redis answers nobody while
that runs: docs/decisions/0008-fenced-writes.md says for how long. Hashes that are right already are
left alone. In a cluster each node does its own part in one step, one node after the other.

While the new hashes are laid down the store bears a mark that no writer has. What a refill that was
cut off has laid down is removed by the next one, which begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Any

from redis.cluster import RedisCluster

from contracts.feast_redis import redis_field, redis_key, redis_timestamp_field
from contracts.online_store import RedisConfig
from contracts.redis_mark import mark_key
from dataflows.stores.gathered_rows import GatheredRows
from dataflows.stores.online_writer import OnlineStoreError
from dataflows.stores.redis_client import open_client, store_errors
from dataflows.stores.redis_mark import mark_in
from dataflows.stores.redis_refill_scripts import STAGE, SWAP
from dataflows.stores.redis_scan import entity_keys, keys_with, views_of
from dataflows.stores.redis_slots import TAG_BYTES, slot_tags
from dataflows.stores.refill import Refill
from dataflows.stores.store_mark import filling_mark, mark_to_be, where_is

# How much Redis takes in one step while it answers nobody else (about 1 ms).
_ENTITIES_AT_ONCE = 32
_BYTES_AT_ONCE = 250_000
# Put in place one takes about 4 µs, and far more where others want the same cores.
_SWAP_SECONDS_PER_ENTITY = 100e-6


def replace_in_redis(refill: Refill, config: RedisConfig, timeout_seconds: float) -> None:
    """Make Redis hold exactly what was gathered; see ``refill.replace_values``."""
    project = refill.project
    views = [*refill.views, *refill.gone]
    with (
        closing(GatheredRows(refill.gathered, project, refill.views)) as rows,
        store_errors(config),
        _Laying(refill, config, timeout_seconds, _going(refill)) as laying,
    ):
        for key, fields in rows.entities():
            laying.add(key, fields)
        for entities in entity_keys(laying.client, project):
            ours = [entity for entity in entities if views_of(entity, views)]
            for key in rows.missing(ours):
                laying.add(key, ())
        laying.swap()


def add_to_redis(refill: Refill, config: RedisConfig, timeout_seconds: float) -> None:
    """Put the rows of the entities that were gathered in place; see ``refill.add_values``."""
    with (
        closing(GatheredRows(refill.gathered, refill.project, refill.views)) as rows,
        store_errors(config),
        _Laying(refill, config, timeout_seconds, ()) as laying,
    ):
        for key, fields in rows.entities():
            laying.add(key, fields)
        laying.swap()


def _going(refill: Refill) -> list[bytes]:
    """The fields that no hash keeps, unless it gets them anew."""
    fields = []
    for view in (*refill.views, *refill.gone):
        fields.append(redis_timestamp_field(view.name))
        fields += [redis_field(view.name, a.feature) for a in view.aggregates]
    return fields


class _Group:
    """What one server, or one node of a cluster, does in one step."""

    def __init__(self, list_key: str) -> None:
        self.list_key = list_key
        self.entities: list[bytes | str | int] = []
        self.count = 0
        self.bytes = 0
        self.staged = 0


class _Laying:
    """Lays new hashes down beside the old ones, and puts them in place in the end."""

    def __init__(
        self, refill: Refill, config: RedisConfig, timeout_seconds: float, going: Sequence[bytes]
    ) -> None:
        self._project = refill.project
        self._config = config
        self._timeout_seconds = timeout_seconds
        self._going = going
        self._mark = refill.mark
        self._mark_key = mark_key(refill.project)
        self._filling = ""
        # Does not end as an entity's key does; nobody takes it for one.
        self._begin = f"headwater:refill:{refill.project}:"
        ttl = config.key_ttl_seconds
        self._ttl: str | int = "" if ttl is None else ttl
        self._groups: dict[str, _Group] = {}
        # One step is under way while the next is made.
        self._sender = ThreadPoolExecutor(max_workers=1)
        self._sent: Future[None] | None = None
        self.client: Any = None

    def __enter__(self) -> _Laying:
        """Fence every writer, and remove what an earlier refill has left."""
        self.client = open_client(self._config, self._timeout_seconds)
        try:
            found = mark_in(self.client.get(self._mark_key))
            if self._mark is None:
                self._mark = mark_to_be(found)
            self._filling = filling_mark(self._mark)
            self.client.set(self._mark_key, self._filling)
            for keys in keys_with(self.client, self._begin):
                with self.client.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.unlink(key)
                    pipe.execute()
        except BaseException:
            self.client.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sender.shutdown()
        self.client.close()

    def add(self, entity: bytes, fields: Sequence[bytes]) -> None:
        """Give an entity these fields and values, and none of those that go."""
        key = redis_key(self._project, entity)
        group, tag = self._place(key)
        group.entities += (tag, key, len(fields), *fields)
        group.count += 1
        group.bytes += len(key) + sum(map(len, fields))
        if group.count == _ENTITIES_AT_ONCE or group.bytes >= _BYTES_AT_ONCE:
            self._send(group)

    def swap(self) -> None:
        """Put everything in place, the mark with it."""
        for group in self._groups.values():
            self._send(group)
        self._wait()
        largest = max((group.staged for group in self._groups.values()), default=0)
        patient = self._timeout_seconds + largest * _SWAP_SECONDS_PER_ENTITY
        options = {**self._config.options, "socket_timeout": patient}
        with closing(open_client(replace(self._config, options=options), patient)) as client:
            if isinstance(client, RedisCluster):
                self._check(mark_in(client.get(self._mark_key)) == self._filling)
                for group in self._groups.values():
                    arguments = ("", "", self._begin, self._ttl, TAG_BYTES)
                    client.eval(SWAP, 1, group.list_key, *arguments)
                if self._mark:
                    client.set(self._mark_key, self._mark)
                else:
                    client.delete(self._mark_key)
                return
            arguments = (self._filling, self._mark or "", self._begin, self._ttl, 0)
            keys = (f"{self._begin}list", self._mark_key)
            self._check(client.eval(SWAP, 2, *keys, *arguments) >= 0)

    def _place(self, key: bytes) -> tuple[_Group, str]:
        """What an entity is staged with, and the tag of its new name."""
        if not isinstance(self.client, RedisCluster):
            if not self._groups:
                self._groups[""] = _Group(f"{self._begin}list")
            return self._groups[""], ""
        slot = self.client.keyslot(key)  # type: ignore[no-untyped-call]
        tag = slot_tags()[slot]
        node = self.client.nodes_manager.get_node_from_slot(slot).name
        if node not in self._groups:
            self._groups[node] = _Group(f"{self._begin}{tag}list")
        return self._groups[node], tag

    def _send(self, group: _Group) -> None:
        """Let Redis take what has gathered, once it has taken what went before."""
        if not group.count:
            return
        self._wait()
        self._sent = self._sender.submit(self._stage, group, group.entities)
        group.entities, group.count, group.bytes = [], 0, 0

    def _wait(self) -> None:
        if self._sent is not None:
            self._sent.result()

    def _stage(self, group: _Group, entities: Sequence[bytes | str | int]) -> None:
        keys = [group.list_key]
        if not isinstance(self.client, RedisCluster):
            keys.append(self._mark_key)
        begin = (self._filling, self._begin, self._ttl, len(self._going), *self._going)
        staged = self.client.eval(STAGE, len(keys), *keys, *begin, *entities)
        self._check(staged >= 0)
        group.staged += staged

    def _check(self, is_ours: object) -> None:
        if not is_ours:
            raise OnlineStoreError(
                f"{where_is(self._config)} was taken over by another replay while this one filled"
                " it; leave it to that one, or start `headwater replay` again when it has ended"
            )
