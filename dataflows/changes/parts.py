"""Which replay a change takes: none, of some views and models that belong together, or of all."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from contracts.plan import Plan
from dataflows.changes.comparison import Changes
from dataflows.changes.definitions import window_us
from dataflows.changes.detail import Change, Detail

Scope = Literal["nothing", "parts", "everything"]


@dataclass(frozen=True)
class Replay:
    """What has to be rebuilt from the log.

    Attributes:
        scope: how much.
        because: why it is everything, a line each; empty otherwise.
        views: those that are rebuilt, by name, sorted; as the definitions now have them.
        models: the same of models.
        gone_views: those that the definitions no longer have, and whose state goes.
        gone_models: the same of models.
        arguments: of ``headwater replay``.
        reach_us: the current values of what is rebuilt need no more of the log than this
            (microseconds, late events included); None if they need its beginning.
    """

    scope: Scope
    because: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    gone_views: tuple[str, ...] = ()
    gone_models: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    reach_us: int | None = None

    @property
    def command(self) -> str:
        """The command line; empty if nothing is to be done."""
        return "" if self.scope == "nothing" else " ".join(("headwater replay", *self.arguments))


def replay_for(changes: Changes, before: Plan, after: Plan) -> Replay:
    """The smallest replay after which state, stores and models are those of ``after``."""
    views, models = _rebuilt(changes.views), _rebuilt(changes.models)
    because = _about_everything(changes)
    if not because and not views and not models:
        return Replay("nothing")
    both = (before, after)
    selected_views, selected_models = belonging_together(both, views, models)
    now_views, now_models = _names(after)
    rest = (now_views - selected_views) | (now_models - selected_models)
    if not because and not rest:
        because = ("all views and models are changed, or read together with one that is",)
    if because:
        selected_views, selected_models = (
            set(now_views).union(_names(before)[0]),
            set(now_models).union(_names(before)[1]),
        )
    kept_views, kept_models = selected_views & now_views, selected_models & now_models
    return Replay(
        scope="everything" if because else "parts",
        because=because,
        views=tuple(sorted(kept_views)),
        models=tuple(sorted(kept_models)),
        gone_views=tuple(sorted(selected_views - now_views)),
        gone_models=tuple(sorted(selected_models - now_models)),
        arguments=() if because else _arguments(after, selected_views, selected_models),
        reach_us=None if kept_models else _reach_us(after, kept_views),
    )


def belonging_together(
    plans: Iterable[Plan], views: Collection[str], models: Collection[str]
) -> tuple[set[str], set[str]]:
    """These, all views that their models read in any of the plans, all models that read those, ...

    Reads that are under way between a view and a model are in the state of both, so that neither
    can be rebuilt without the other. Names need not be in every plan.
    """
    reads = [(model.name, set(model.views)) for plan in plans for model in plan.models]
    found_views, found_models = set(views), set(models)
    while True:
        new_models = {
            name for name, read in reads if name in found_models or read & found_views
        } - found_models
        found_models |= new_models
        new_views = {
            view for name, read in reads if name in found_models for view in read
        } - found_views
        found_views |= new_views
        if not new_models and not new_views:
            return found_views, found_models


def must_rebuild(changes: Changes) -> bool:
    """Whether anything changed that state is made of."""
    return bool(left_behind(changes, (), ())) or any(
        change.kind == "removed" for change in (*changes.views, *changes.models)
    )


def left_behind(changes: Changes, views: Collection[str], models: Collection[str]) -> list[str]:
    """What changed, in words, so that a replay of these views and models alone would not do.

    Empty if all that changed is among them, or is simply gone.
    """
    words = list(_about_everything(changes))
    for kind, found, chosen in (("view", changes.views, views), ("model", changes.models, models)):
        words += [
            f"{kind} {change.name} is {change.kind}"
            for change in found
            if change.rebuilds and change.kind != "removed" and change.name not in chosen
        ]
    return words


def _about_everything(changes: Changes) -> tuple[str, ...]:
    """Numbers of partitions, and what waits in shards, are those of all topics together."""
    topics = [
        f"topic {change.name} is {change.kind}" for change in changes.topics if change.rebuilds
    ]
    return (*(detail.text for detail in _rebuilding(changes.whole)), *topics)


def _rebuilding(details: Iterable[Detail]) -> list[Detail]:
    return [one for one in details if one.rebuilds]


def _rebuilt(changes: Iterable[Change]) -> set[str]:
    return {change.name for change in changes if change.rebuilds}


def _names(plan: Plan) -> tuple[set[str], set[str]]:
    return {view.name for view in plan.views}, {model.name for model in plan.models}


def _arguments(after: Plan, views: set[str], models: set[str]) -> tuple[str, ...]:
    """Models bring the views along that they read now; the other views are named."""
    read = {name for model in after.models if model.name in models for name in model.views}
    arguments = []
    for option, names in (("--views", views - read), ("--model", models)):
        if names:
            arguments += [option, ",".join(sorted(names))]
    return tuple(arguments)


def _reach_us(after: Plan, views: set[str]) -> int | None:
    reach_us = 0
    for name in views:
        view = after.view(name)
        longest_us = window_us(view)
        if longest_us is None:
            return None
        reach_us = max(reach_us, longest_us + after.topic(view.topic).watermark_delay_us)
    return reach_us
