"""Which model version answers: follows the repository, swaps, keeps the last good one."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

import structlog

from contracts.manifest import Manifest
from contracts.model_channels import Channel
from contracts.model_repository import (
    CorruptVersionError,
    ModelNotFoundError,
    ModelRepository,
    ModelRepositoryError,
    VersionNotFoundError,
)
from scorer.errors import InvalidRequestError, ModelNotReadyError, UnknownModelError
from scorer.model import LoadedModel, UnusableModelError

# A refused version is tried again after 1, 2, 4, ... polls, at most this many: someone may mend it.
_POLLS_BETWEEN_TRIES_MAX = 64
CHANNELS: tuple[Channel, ...] = get_args(Channel)
_log = structlog.get_logger()


@dataclass
class _Refusal:
    """A version that could not be loaded, and when to try again, in polls."""

    version: str
    reason: str
    wait_polls: int = 1
    polls_left: int = 1


class ModelPool:
    """Versions in channels, always loaded; others on demand, a bounded number of them.

    ``channel`` and ``version`` are for the event loop; loading happens in threads, and a swap is
    one assignment between two requests.
    """

    def __init__(
        self,
        repository: ModelRepository,
        pinned_max: int,
        on_swap: Callable[[str, str, float], None],
        load: Callable[[Manifest, bytes], LoadedModel] = LoadedModel,
    ) -> None:
        """Nothing is loaded before the first ``poll``.

        Args:
            repository: where versions and channels are.
            pinned_max: versions kept in memory besides those in channels.
            on_swap: called with the model, ``swapped`` or ``refused``, and the seconds it took.
            load: makes a version ready to run; called in threads.
        """
        self._repository = repository
        self._pinned_max = pinned_max
        self._on_swap = on_swap
        self._make = load
        self._serving: dict[tuple[str, str], LoadedModel] = {}
        self._identities: dict[tuple[str, str], tuple[int, int]] = {}
        self._known: tuple[str, ...] = ()
        self._refused: dict[tuple[str, str], _Refusal] = {}
        self._pinned: OrderedDict[tuple[str, str], LoadedModel] = OrderedDict()
        self._pinning = asyncio.Lock()
        self._trouble: dict[str, str] = {}

    def models(self) -> list[tuple[str, Mapping[str, str]]]:
        """(model, channel -> version that serves there) of all known models, sorted."""
        serving = {model: dict[str, str]() for model in self._known}
        for (model, channel), loaded in self._serving.items():
            serving.setdefault(model, {})[channel] = loaded.manifest.version
        return sorted(serving.items())

    def channel(self, model: str, channel: str) -> LoadedModel:
        """The version that a channel of a model has at this moment.

        Raises:
            InvalidRequestError: there is no such channel of any model.
            UnknownModelError: the repository has no such model.
            ModelNotReadyError: the channel has no version, or one that cannot serve.
        """
        loaded = self._serving.get((model, channel))
        if loaded is not None:
            return loaded
        if channel not in CHANNELS:
            raise InvalidRequestError(
                f"unknown channel {channel!r:.120}; there are: {', '.join(CHANNELS)}"
            )
        if model not in self._known:
            raise UnknownModelError(f"unknown model {model!r:.120}")
        refusal = self._refused.get((model, channel))
        why = f"version {refusal.version} was refused" if refusal else f"it has no {channel}"
        raise ModelNotReadyError(f"model {model!r} cannot score yet: {why}")

    async def version(self, model: str, version: str) -> LoadedModel:
        """A version by its number, loaded now if need be.

        Raises:
            UnknownModelError: no such model, or no such version of it.
            ModelNotReadyError: the version is corrupt or cannot be served.
        """
        if (served := self._served(model, version)) is not None:
            return served
        key = (model, version)
        if key in self._pinned:
            self._pinned.move_to_end(key)
            return self._pinned[key]
        # One load at a time: a flood of pinned requests must not fill the memory.
        async with self._pinning:
            loaded = self._pinned.get(key)
            if loaded is None:
                loaded = await asyncio.to_thread(self._load_pinned, model, version)
            self._pinned[key] = loaded
            self._pinned.move_to_end(key)
            while len(self._pinned) > self._pinned_max:
                self._pinned.popitem(last=False)
            return loaded

    async def poll(self) -> None:
        """Look at every model once and load what changed. Never raises for what is on the disk."""
        try:
            self._known = tuple(await asyncio.to_thread(self._repository.models))
        except OSError as error:
            self._complain("repository", f"cannot list models: {error}")
            return
        self._trouble.pop("repository", None)
        for model in self._known:
            try:
                await self._follow(model)
            except (ModelRepositoryError, OSError) as error:
                self._complain(model, str(error))
            else:
                self._trouble.pop(model, None)

    async def watch(self, poll_seconds: float) -> None:
        """Poll for ever, until cancelled."""
        while True:
            await asyncio.sleep(poll_seconds)
            try:
                await self.poll()
            except Exception:  # noqa: BLE001 - watching must never end
                # The scorer must go on with what it has, whatever the repository does to it.
                _log.exception("model_poll_failed")

    def _served(self, model: str, version: str) -> LoadedModel | None:
        """The version if a channel has it."""
        for channel in CHANNELS:
            loaded = self._serving.get((model, channel))
            if loaded is not None and loaded.manifest.version == version:
                return loaded
        return None

    async def _follow(self, model: str) -> None:
        channels = await asyncio.to_thread(self._repository.channels, model)
        for channel in CHANNELS:
            wanted = channels.version(channel)
            if wanted is not None:
                await self._fill(model, channel, wanted)
            elif self._serving.pop((model, channel), None) is not None:
                _log.warning("model_withdrawn", model=model, channel=channel)

    async def _fill(self, model: str, channel: Channel, wanted: str) -> None:
        """Have that version in that channel, or keep the one that is there."""
        place = (model, channel)
        serving = self._serving.get(place)
        identity = await asyncio.to_thread(self._repository.identity, model, wanted)
        if serving is not None and serving.manifest.version == wanted:
            if self._identities[place] == identity:
                self._refused.pop(place, None)
                return
            # A replay put another repository in the place of the one that we know.
            self._pinned.clear()
        refusal = self._refused.get(place)
        if refusal is not None and refusal.version == wanted:
            refusal.polls_left -= 1
            if refusal.polls_left > 0:
                return
        started = time.perf_counter()
        try:
            loaded = self._shared(model, wanted, identity)
            if loaded is None:
                loaded = await asyncio.to_thread(self._load, model, wanted)
        except (ModelRepositoryError, UnusableModelError) as error:
            self._on_swap(model, "refused", time.perf_counter() - started)
            self._refuse(place, wanted, str(error))
            return
        self._serving[place] = loaded
        self._identities[place] = identity
        self._refused.pop(place, None)
        self._on_swap(model, "swapped", time.perf_counter() - started)
        before = serving.manifest.version if serving else None
        _log.info("model_swapped", model=model, channel=channel, version=wanted, before=before)

    def _shared(self, model: str, version: str, identity: tuple[int, int]) -> LoadedModel | None:
        """The same version, if another channel has it already."""
        for channel in CHANNELS:
            place = (model, channel)
            loaded = self._serving.get(place)
            if (
                loaded is not None
                and loaded.manifest.version == version
                and self._identities[place] == identity
            ):
                return loaded
        return None

    def _refuse(self, place: tuple[str, str], version: str, reason: str) -> None:
        old = self._refused.get(place)
        if old is not None and (old.version, old.reason) == (version, reason):
            old.wait_polls = min(2 * old.wait_polls, _POLLS_BETWEEN_TRIES_MAX)
            old.polls_left = old.wait_polls
            return
        self._refused[place] = _Refusal(version, reason)
        serving = self._serving.get(place)
        keeps = serving.manifest.version if serving else None
        model, channel = place
        _log.error(
            "model_refused",
            model=model,
            channel=channel,
            version=version,
            reason=reason,
            serving_on=keeps,
        )

    def _load(self, model: str, version: str) -> LoadedModel:
        return self._make(*self._repository.load(model, version))

    def _load_pinned(self, model: str, version: str) -> LoadedModel:
        try:
            return self._load(model, version)
        except ModelNotFoundError:
            raise UnknownModelError(f"unknown model {model!r:.120}") from None
        except VersionNotFoundError:
            raise UnknownModelError(f"model {model!r} has no version {version!r:.120}") from None
        except (CorruptVersionError, UnusableModelError) as error:
            # The reason names files of ours: it is for the log, not for the caller.
            _log.warning("pinned_refused", model=model, version=version, reason=str(error))
            raise ModelNotReadyError(
                f"model {model!r} version {version} is corrupt or cannot be served"
            ) from error

    def _complain(self, about: str, reason: str) -> None:
        if self._trouble.get(about) != reason:
            self._trouble[about] = reason
            _log.error("model_repository_trouble", about=about, reason=reason)
