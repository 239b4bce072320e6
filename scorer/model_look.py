"""One look at the model repository: which versions are wanted now, and which very ones they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from contracts.model_channels import Channel, Channels
from contracts.model_repository import ModelRepository, ModelRepositoryError

# Tells a version from another one of that number.
Identity = tuple[int, int]


@dataclass(frozen=True)
class Seen:
    """What the repository has of a model.

    Attributes:
        channels: None where they cannot be read.
        identities: of the versions in channels, without those that are not there.
        trouble: what cannot be read, and why; empty if all can.
    """

    channels: Channels | None
    identities: Mapping[Channel, Identity]
    trouble: str


def look_at(repository: ModelRepository) -> dict[str, Seen]:
    """All models by name, sorted. Not for the event loop. OSError if they cannot be listed."""
    return {model: _seen(repository, model) for model in repository.models()}


def _seen(repository: ModelRepository, model: str) -> Seen:
    try:
        channels = repository.channels(model)
    except (ModelRepositoryError, OSError) as error:
        return Seen(None, {}, str(error))
    identities: dict[Channel, Identity] = {}
    trouble = ""
    for channel in get_args(Channel):
        version = channels.version(channel)
        if version is None:
            continue
        try:
            identities[channel] = repository.identity(model, version)
        except (ModelRepositoryError, OSError) as error:
            # The other channels may be as they should.
            trouble = trouble or str(error)
    return Seen(channels, identities, trouble)
