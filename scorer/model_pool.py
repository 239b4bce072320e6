"""Which model version answers: follows the repository, swaps, keeps the last good one."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import get_args

import structlog

from contracts.manifest import Manifest
from contracts.model_channels import Channel, Channels
from contracts.model_repository import (
    CorruptVersionError,
    ModelNotFoundError,
    ModelRepository,
    ModelRepositoryError,
    VersionNotFoundError,
)
from scorer.daemon_threads import DaemonThreads
from scorer.errors import InvalidRequestError, ModelNotReadyError, UnknownModelError
from scorer.model import LoadedModel, UnusableModelError
from scorer.model_look import Identity, look_at
from scorer.routing import Rollout

# A refused version is tried again after 1, 2, 4, ... polls, at most this many: someone may mend it.
_POLLS_BETWEEN_TRIES_MAX = 64
# Each may take all the memory of its model, for a while.
_LOADS_MAX = 4
CHANNELS: tuple[Channel, ...] = get_args(Channel)
Place = tuple[str, Channel]
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
        self._serving: dict[Place, LoadedModel] = {}
        self._identities: dict[Place, Identity] = {}
        self._known: tuple[str, ...] = ()
        self._refused: dict[Place, _Refusal] = {}
        self._pinned: OrderedDict[tuple[str, str], LoadedModel] = OrderedDict()
        self._pinning = asyncio.Lock()
        self._trouble: dict[str, str] = {}
        self._channels: dict[str, Channels] = {}
        self._wanted: dict[Place, tuple[str, Identity]] = {}
        self._loading: dict[Place, asyncio.Task[None]] = {}
        self._loads: dict[tuple[str, str, Identity], asyncio.Task[LoadedModel]] = {}
        self._room = asyncio.Semaphore(_LOADS_MAX)
        # Each kind has its own, for one that hangs must not hold up the others.
        self._look_threads = DaemonThreads("looking for models", 1)
        self._load_threads = DaemonThreads("loading a version", _LOADS_MAX)
        self._pin_threads = DaemonThreads("loading a version that was asked for", _LOADS_MAX)
        self._former: dict[str, tuple[LoadedModel, Identity]] = {}
        self._rollouts: dict[str, Rollout] = {}

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
        loaded = self._serving.get((model, channel))  # type: ignore[arg-type]
        if loaded is not None:
            return loaded
        if channel not in CHANNELS:
            raise InvalidRequestError(
                f"unknown channel {channel!r:.120}; there are: {', '.join(CHANNELS)}"
            )
        if model not in self._known:
            raise UnknownModelError(f"unknown model {model!r:.120}")
        refusal = self._refused.get((model, channel))
        if refusal:
            why = f"version {refusal.version} was refused"
        elif model in self._trouble:
            why = "what the repository has of it cannot be read"
        else:
            why = f"it has no {channel}"
        raise ModelNotReadyError(f"model {model!r} cannot score yet: {why}")

    def rollout(self, model: str) -> Rollout | None:
        """Who answers what; None where the champion answers everything and is alone."""
        return self._rollouts.get(model)

    def weights(self, model: str) -> tuple[Mapping[str, float], str]:
        """The shares by channel as they are set, and the salt."""
        channels = self._channels.get(model)
        return (channels.weights, channels.salt) if channels is not None else ({}, "")

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
                loaded = await self._pin_threads.run(partial(self._load_pinned, model, version))
            self._pinned[key] = loaded
            self._pinned.move_to_end(key)
            while len(self._pinned) > self._pinned_max:
                self._pinned.popitem(last=False)
            return loaded

    async def poll(self) -> None:
        """Look at every model once and load what changed. Never raises for what is on the disk."""
        await self._look()
        while self._loading:
            await asyncio.wait(self._loading.values())

    async def watch(self, poll_seconds: float) -> None:
        """Look again and again, until cancelled; what takes long to load holds up nothing else."""
        while True:
            await asyncio.sleep(poll_seconds)
            try:
                await self._look()
            except Exception:  # noqa: BLE001 - watching must never end
                # The scorer must go on with what it has, whatever the repository does to it.
                _log.exception("model_poll_failed")

    async def close(self) -> None:
        """Load nothing more."""
        tasks = [*self._loading.values(), *self._loads.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _served(self, model: str, version: str) -> LoadedModel | None:
        """The version if a channel has it."""
        for channel in CHANNELS:
            loaded = self._serving.get((model, channel))
            if loaded is not None and loaded.manifest.version == version:
                return loaded
        return None

    async def _look(self) -> None:
        try:
            # One thread for all: a rollback must not wait until every model had its turn.
            seen = await self._look_threads.run(partial(look_at, self._repository))
        except OSError as error:
            self._complain("repository", f"cannot list models: {error}")
            return
        self._trouble.pop("repository", None)
        self._known = tuple(seen)
        for model, one in seen.items():
            if one.trouble:
                self._complain(model, one.trouble)
            else:
                self._trouble.pop(model, None)
            if one.channels is not None:
                self._follow(model, one.channels, one.identities)

    def _follow(
        self, model: str, channels: Channels, identities: Mapping[Channel, Identity]
    ) -> None:
        self._channels[model] = channels
        for channel in CHANNELS:
            wanted, place = channels.version(channel), (model, channel)
            if wanted is None:
                self._wanted.pop(place, None)
                if self._serving.pop(place, None) is not None:
                    _log.warning("model_withdrawn", model=model, channel=channel)
            elif channel in identities:
                self._wanted[place] = (wanted, identities[channel])
                self._fill(place)
        self._weigh(model)

    def _fill(self, place: Place) -> None:
        """Have the wanted version in that channel, or keep the one that is there meanwhile."""
        wanted, identity = self._wanted[place]
        serving = self._serving.get(place)
        if serving is not None and serving.manifest.version == wanted:
            if self._identities[place] == identity:
                self._refused.pop(place, None)
                return
            # A replay put another repository in the place of the one that we know.
            self._pinned.clear()
        if place in self._loading:
            return
        refusal = self._refused.get(place)
        if refusal is not None and refusal.version == wanted:
            refusal.polls_left -= 1
            if refusal.polls_left > 0:
                return
        started = time.perf_counter()
        loaded = self._shared(place[0], wanted, identity)
        if loaded is not None:
            self._swap(place, loaded, identity, started)
            return
        task = asyncio.create_task(self._load_into(place, wanted, identity, started))
        self._loading[place] = task
        task.add_done_callback(lambda _: self._loading.pop(place, None))

    async def _load_into(
        self, place: Place, wanted: str, identity: Identity, started: float
    ) -> None:
        model = place[0]
        try:
            loaded = await asyncio.shield(self._load_once(model, wanted, identity))
        except (ModelRepositoryError, UnusableModelError) as error:
            self._on_swap(model, "refused", time.perf_counter() - started)
            self._refuse(place, wanted, str(error))
        except Exception:  # noqa: BLE001 - the scorer serves on with what it has
            _log.exception("model_load_failed", model=model, version=wanted)
            self._on_swap(model, "refused", time.perf_counter() - started)
            self._refuse(place, wanted, "internal error")
        else:
            # Something else may be wanted by now: the next look loads that.
            if self._wanted.get(place) == (wanted, identity):
                self._swap(place, loaded, identity, started)
                self._weigh(model)

    def _load_once(self, model: str, version: str, identity: Identity) -> asyncio.Task[LoadedModel]:
        """The load of a version, one for all channels that want it."""
        key = (model, version, identity)
        if (task := self._loads.get(key)) is None:
            task = self._loads[key] = asyncio.create_task(self._load_in_room(model, version))
            task.add_done_callback(lambda _: self._loads.pop(key, None))
        return task

    async def _load_in_room(self, model: str, version: str) -> LoadedModel:
        async with self._room:
            return await self._load_threads.run(partial(self._load, model, version))

    def _swap(self, place: Place, loaded: LoadedModel, identity: Identity, started: float) -> None:
        model, channel = place
        before = self._serving.get(place)
        if channel == "champion" and before is not None:
            # A rollback goes back to it, and must not wait for a load.
            self._former[model] = (before, self._identities[place])
        self._serving[place] = loaded
        self._identities[place] = identity
        self._refused.pop(place, None)
        self._on_swap(model, "swapped", time.perf_counter() - started)
        _log.info(
            "model_swapped",
            model=model,
            channel=channel,
            version=loaded.manifest.version,
            before=before.manifest.version if before else None,
        )

    def _weigh(self, model: str) -> None:
        """Work out who answers what, from what is served now."""
        channels = self._channels[model]
        champion = self._serving.get((model, "champion"))
        challenger = self._beside(model, "challenger", champion)
        shadow = self._beside(model, "shadow", champion)
        share = channels.challenger_share
        if champion is None or (share <= 0 and shadow is None):
            self._rollouts.pop(model, None)
            return
        rollout = Rollout(champion, challenger, shadow, share, channels.salt)
        if rollout != self._rollouts.get(model):
            self._rollouts[model] = rollout

    def _beside(
        self, model: str, channel: Channel, champion: LoadedModel | None
    ) -> LoadedModel | None:
        """The version that a channel beside the champion's should have, if it serves there."""
        place = (model, channel)
        loaded = self._serving.get(place)
        wanted = self._wanted.get(place)
        if loaded is None or champion is None or wanted is None:
            return None
        # Of these channels no older version stands in: scores would count for one that is not it.
        if (loaded.manifest.version, self._identities[place]) != wanted:
            return None
        if loaded.manifest.task != champion.manifest.task:
            self._complain(
                f"{model} {channel}",
                f"its task is {loaded.manifest.task}, the champion's {champion.manifest.task}: put"
                " a version of the same task there",
            )
            return None
        self._trouble.pop(f"{model} {channel}", None)
        return loaded

    def _shared(self, model: str, version: str, identity: Identity) -> LoadedModel | None:
        """The same version, if another channel has it already, or the champion was it before."""
        for channel in CHANNELS:
            place = (model, channel)
            loaded = self._serving.get(place)
            if (
                loaded is not None
                and loaded.manifest.version == version
                and self._identities[place] == identity
            ):
                return loaded
        former = self._former.get(model)
        if former is not None and (former[0].manifest.version, former[1]) == (version, identity):
            return former[0]
        return None

    def _refuse(self, place: Place, version: str, reason: str) -> None:
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
