"""Which model version answers: follows the repository, swaps, keeps the last good one."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from contracts.model_repository import (
    CorruptVersionError,
    ModelNotFoundError,
    ModelRepository,
    ModelRepositoryError,
    VersionNotFoundError,
)
from scorer.errors import ModelNotReadyError, UnknownModelError
from scorer.model import LoadedModel, UnusableModelError

# A refused version is tried again after 1, 2, 4, ... polls, at most this many: someone may mend it.
_POLLS_BETWEEN_TRIES_MAX = 64
_log = structlog.get_logger()


@dataclass
class _Refusal:
    """A version that could not be loaded, and when to try again, in polls."""

    version: str
    reason: str
    wait_polls: int = 1
    polls_left: int = 1


class ModelPool:
    """Champions of all models, always loaded; other versions on demand, a bounded number of them.

    ``champion`` and ``version`` are for the event loop; loading happens in threads, and a swap is
    one assignment between two requests.
    """

    def __init__(
        self,
        repository: ModelRepository,
        pinned_max: int,
        on_swap: Callable[[str, str, float], None],
    ) -> None:
        """Nothing is loaded before the first ``poll``.

        Args:
            repository: where versions and channels are.
            pinned_max: versions kept in memory besides the champions.
            on_swap: called with the model, ``swapped`` or ``refused``, and the seconds it took.
        """
        self._repository = repository
        self._pinned_max = pinned_max
        self._on_swap = on_swap
        self._champions: dict[str, LoadedModel] = {}
        self._identities: dict[str, tuple[int, int]] = {}
        self._known: tuple[str, ...] = ()
        self._refused: dict[str, _Refusal] = {}
        self._pinned: OrderedDict[tuple[str, str], LoadedModel] = OrderedDict()
        self._pinning = asyncio.Lock()
        self._trouble: dict[str, str] = {}

    def models(self) -> list[tuple[str, str]]:
        """(model, serving version) of all known models, sorted; version empty if none serves."""
        serving = {name: model.manifest.version for name, model in self._champions.items()}
        return [(name, serving.get(name, "")) for name in sorted({*self._known, *serving})]

    def champion(self, model: str) -> LoadedModel:
        """The version that answers requests which name none.

        Raises:
            UnknownModelError: the repository has no such model.
            ModelNotReadyError: none of its versions can serve.
        """
        loaded = self._champions.get(model)
        if loaded is not None:
            return loaded
        if model not in self._known:
            raise UnknownModelError(f"unknown model {model!r:.120}")
        refusal = self._refused.get(model)
        why = f"version {refusal.version} was refused" if refusal else "it has no champion"
        raise ModelNotReadyError(f"model {model!r} cannot score yet: {why}")

    async def version(self, model: str, version: str) -> LoadedModel:
        """A version by its number, loaded now if need be.

        Raises:
            UnknownModelError: no such model, or no such version of it.
            ModelNotReadyError: the version is corrupt or cannot be served.
        """
        champion = self._champions.get(model)
        if champion is not None and champion.manifest.version == version:
            return champion
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

    async def _follow(self, model: str) -> None:
        channels = await asyncio.to_thread(self._repository.channels, model)
        wanted, serving = channels.champion, self._champions.get(model)
        if wanted is None:
            if self._champions.pop(model, None) is not None:
                _log.warning("model_withdrawn", model=model)
            return
        identity = await asyncio.to_thread(self._repository.identity, model, wanted)
        if serving is not None and serving.manifest.version == wanted:
            if self._identities[model] == identity:
                self._refused.pop(model, None)
                return
            # A replay put another repository in the place of the one that we know.
            self._pinned.clear()
        refusal = self._refused.get(model)
        if refusal is not None and refusal.version == wanted:
            refusal.polls_left -= 1
            if refusal.polls_left > 0:
                return
        started = time.perf_counter()
        try:
            loaded = await asyncio.to_thread(self._load, model, wanted)
        except (ModelRepositoryError, UnusableModelError) as error:
            self._on_swap(model, "refused", time.perf_counter() - started)
            self._refuse(model, wanted, str(error))
            return
        self._champions[model] = loaded
        self._identities[model] = identity
        self._refused.pop(model, None)
        self._on_swap(model, "swapped", time.perf_counter() - started)
        before = serving.manifest.version if serving else None
        _log.info("model_swapped", model=model, version=wanted, before=before)

    def _refuse(self, model: str, version: str, reason: str) -> None:
        old = self._refused.get(model)
        if old is not None and (old.version, old.reason) == (version, reason):
            old.wait_polls = min(2 * old.wait_polls, _POLLS_BETWEEN_TRIES_MAX)
            old.polls_left = old.wait_polls
            return
        self._refused[model] = _Refusal(version, reason)
        serving = self._champions.get(model)
        keeps = serving.manifest.version if serving else None
        _log.error("model_refused", model=model, version=version, reason=reason, serving_on=keeps)

    def _load(self, model: str, version: str) -> LoadedModel:
        return LoadedModel(*self._repository.load(model, version))

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
