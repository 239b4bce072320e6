"""Stored features of entities: who may read which, and the read. Knows nothing of gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from scorer.applied import AppliedFeatures
from scorer.callers import Caller
from scorer.catalogue import Catalogue, FeatureRead, FeatureSet, features_of
from scorer.errors import (
    ForbiddenError,
    InvalidRequestError,
    ModelNotReadyError,
    OverloadedError,
    StoreUnavailableError,
    UnknownModelError,
)
from scorer.model import LoadedModel
from scorer.online_store import Cells, OnlineReader, Wanted
from scorer.row_room import ROWS_PER_REQUEST, RowRoom
from scorer.scoring import PIECE_ROWS
from scorer.vector import MissingReason
from scorer.vector_plan import Scalar


@dataclass(frozen=True, slots=True)
class FeatureLimits:
    """Bounds on requests for features.

    Attributes:
        in_flight_max: requests at one time; more are refused.
        rows_max: rows in one request.
        read_timeout_seconds: how long the store may take.
    """

    in_flight_max: int
    rows_max: int
    read_timeout_seconds: float


@dataclass(frozen=True, slots=True)
class StoredRows:
    """What the store has.

    Attributes:
        features: that were asked for.
        found: ``found[r][i]`` is for row ``i`` what ``features.reads[r]`` gave; None where a part
            of the entity key is null.
        at_us: the moment of the read, event time, microseconds since 1970 UTC.
    """

    features: FeatureSet
    found: tuple[list[Cells | None], ...]
    at_us: int

    def oldest_age_seconds(self) -> float | None:
        """Age of the oldest row whose values count; None if there is none."""
        times = [
            cells.event_time_us
            for read, column in zip(self.features.reads, self.found, strict=True)
            for cells in column
            if cells is not None
            and cells.event_time_us is not None
            and why_missing(read, cells, self.at_us) is None
        ]
        return (self.at_us - min(times)) / 1e6 if times else None


class Features:
    """Reads stored features by feature service, by model, or by name.

    A caller who may use some models only may read what the champions of these read, and for no one
    else is it told whether a service or a feature exists.
    """

    def __init__(
        self,
        applied: AppliedFeatures,
        champion: Callable[[str], LoadedModel],
        reader: OnlineReader,
        limits: FeatureLimits,
    ) -> None:
        """Put the parts together.

        Args:
            applied: what there is.
            champion: gives the champion of a model, or raises as ``ModelPool`` does.
            reader: of the online store.
            limits: bounds.
        """
        self._applied = applied
        self._champion = champion
        self._reader = reader
        self._limits = limits
        self._in_flight = 0
        # Of a version that is no longer loaded nothing is kept.
        self._sets: WeakKeyDictionary[LoadedModel, FeatureSet] = WeakKeyDictionary()
        self._row_room = RowRoom(ROWS_PER_REQUEST * limits.in_flight_max)

    async def catalogue(self) -> Catalogue:
        """What is applied now (UnknownFeatureError if nothing is)."""
        return await self._applied.catalogue()

    async def of_service(self, caller: Caller, service: str) -> FeatureSet:
        """All features of a feature service.

        Raises:
            ForbiddenError: the caller may not read all of them.
            UnknownFeatureError: no such service, or a view of it is not run here.
        """
        catalogue = await self._applied.catalogue()
        allowed = self._allowed(caller)
        if allowed is not None and not (
            catalogue.has_service(service) and allowed.issuperset(catalogue.service_names(service))
        ):
            raise ForbiddenError(
                f"you may not read all of feature service {service!r:.120}; name features that your"
                " models read"
            )
        return catalogue.service(service)

    async def of_names(self, caller: Caller, names: Sequence[str]) -> FeatureSet:
        """Features by name, each ``view:feature``.

        Raises:
            InvalidRequestError: there is none, or one is named twice.
            ForbiddenError: the caller may not read all of them.
            UnknownFeatureError: no stream feature view has such a feature.
        """
        catalogue = await self._applied.catalogue()
        allowed = self._allowed(caller)
        if allowed is not None:
            for name in names:
                if name not in allowed:
                    raise ForbiddenError(
                        f"you may not read feature {name!r:.200}; name features that your models"
                        " read"
                    )
        return catalogue.named(names)

    def of_model(self, caller: Caller, model: str) -> tuple[LoadedModel, FeatureSet]:
        """The champion of a model and the stored features of its vector.

        Raises:
            InvalidRequestError: no model is named.
            ForbiddenError: the caller may not use that model.
            UnknownModelError: the repository has no such model.
            ModelNotReadyError: none of its versions can serve.
        """
        if not model:
            raise InvalidRequestError("no model named: set `model`")
        caller.check(model)
        loaded = self._champion(model)
        return loaded, self._set_of(loaded)

    def room(self, rows: int) -> AbstractContextManager[None]:
        """Room for all rows of a request until it is answered. OverloadedError if there is none."""
        return self._row_room.keep(rows)

    def check_count(self, rows: int) -> None:
        """Raise InvalidRequestError if so many rows, or none, cannot be asked for at once."""
        rows_max = self._limits.rows_max
        if not rows:
            raise InvalidRequestError("no rows: give the entity keys of at least one")
        if rows > rows_max:
            raise InvalidRequestError(f"{rows} rows, at most {rows_max} in one request: split it")

    async def read(
        self, features: FeatureSet, rows: Sequence[Mapping[str, Scalar]], at_us: int
    ) -> StoredRows:
        """Read features of the entities with these keys, each entity once.

        Args:
            features: which.
            rows: join key -> value, for each row.
            at_us: the moment of the read, event time, microseconds.

        Raises:
            InvalidRequestError: no rows, too many, or a key is missing, unknown or of a wrong type.
            OverloadedError: too many requests are under way.
            StoreUnavailableError: the online store failed, or took too long.
        """
        self.check_count(len(rows))
        wanted: list[list[Wanted | None]] = [[] for _ in features.reads]
        for number, keys in enumerate(rows):
            if number and number % PIECE_ROWS == 0:
                await asyncio.sleep(0)
            features.check(number, keys)
            for read, column in zip(features.reads, wanted, strict=True):
                column.append(read.wanted(keys))
        cells = await self._read(
            dict.fromkeys(one for column in wanted for one in column if one is not None)
        )
        found = tuple([None if one is None else cells[one] for one in column] for column in wanted)
        return StoredRows(features, found, at_us)

    async def _read(self, wanted: Iterable[Wanted]) -> dict[Wanted, Cells]:
        asked = list(wanted)
        if not asked:
            return {}
        limits = self._limits
        if self._in_flight >= limits.in_flight_max:
            raise OverloadedError(
                f"{limits.in_flight_max} requests for features are in flight already; try again"
                " later"
            )
        self._in_flight += 1
        try:
            async with asyncio.timeout(limits.read_timeout_seconds):
                found = await self._reader.read_cells(asked)
        except TimeoutError:
            raise StoreUnavailableError(
                f"the online store did not answer within {limits.read_timeout_seconds:g} seconds"
            ) from None
        finally:
            self._in_flight -= 1
        return dict(zip(asked, found, strict=True))

    def _allowed(self, caller: Caller) -> frozenset[str] | None:
        """Names of the features that the caller may read; None for all."""
        if caller.models is None:
            return None
        names: set[str] = set()
        for model in caller.models:
            try:
                loaded = self._champion(model)
            except (UnknownModelError, ModelNotReadyError):
                continue
            names.update(one.name for one in self._set_of(loaded).columns)
        return frozenset(names)

    def _set_of(self, loaded: LoadedModel) -> FeatureSet:
        """What a model reads, taken apart once: it takes longer than a small request."""
        found = self._sets.get(loaded)
        if found is None:
            found = self._sets[loaded] = features_of(loaded.manifest.schema)
        return found


def why_missing(read: FeatureRead, cells: Cells | None, at_us: int) -> MissingReason | None:
    """Why no value of an answer counts at that moment; None if they do, though some may be null."""
    if cells is None:
        return MissingReason.NULL_INPUT
    if cells.event_time_us is None:
        return MissingReason.NO_ROW
    if 0 < read.first.ttl_us < at_us - cells.event_time_us:
        return MissingReason.EXPIRED
    return None
