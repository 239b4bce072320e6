"""What of a repository a replay rebuilds: some views and models that belong together."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from contracts.plan import Plan
from dataflows.definitions.repository import Repository


class SelectionError(Exception):
    """No such view or model; the message says which there are."""


@dataclass(frozen=True)
class Selection:
    """Names of views and models, sorted, closed under "a model reads a view"."""

    views: tuple[str, ...]
    models: tuple[str, ...]


def everything(plan: Plan) -> Selection:
    """All views and models of a plan."""
    return Selection(tuple(v.name for v in plan.views), tuple(m.name for m in plan.models))


def closed(plan: Plan, views: Collection[str], models: Collection[str]) -> Selection:
    """These, the views that the models read, the models that read these, and so on.

    Reads that are under way between a view and a model belong to the state of both, so neither can
    be rebuilt without the other.

    Raises:
        SelectionError: the plan has no such view or model.
    """
    _check("view", views, [view.name for view in plan.views])
    _check("model", models, [model.name for model in plan.models])
    chosen_views, chosen_models = set(views), set(models)
    while True:
        for model in plan.models:
            if model.name in chosen_models or chosen_views.intersection(model.views):
                chosen_models.add(model.name)
        read = {view for m in plan.models if m.name in chosen_models for view in m.views}
        if read <= chosen_views:
            return Selection(tuple(sorted(chosen_views)), tuple(sorted(chosen_models)))
        chosen_views |= read


def restricted(repository: Repository, selection: Selection) -> Repository:
    """The repository with nothing but the selection; with all topics.

    So partitions keep their numbers, and the watermark waits for whom it waits in the whole.
    """
    plan = repository.plan
    if selection == everything(plan):
        return repository
    return replace(
        repository,
        plan=replace(
            plan,
            views=tuple(view for view in plan.views if view.name in selection.views),
            models=tuple(model for model in plan.models if model.name in selection.models),
        ),
        models={n: m for n, m in repository.models.items() if n in selection.models},
        # What a function of any view fails at is no record for any of them.
        whole=repository.whole or plan,
    )


def _check(kind: str, names: Collection[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise SelectionError(
                f"definitions.py has no {kind} {name!r}; it has {', '.join(known) or 'none'}"
            )
