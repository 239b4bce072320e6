"""Keeps Feast from removing online values of views that definitions no longer have.

Whoever serves goes on with the old generation until a replay puts the new one in place, and removes
what is gone then (``dataflows.stores.refill``).
"""

from __future__ import annotations

from typing import Any


def keep_values(store: Any) -> None:
    """Have what is applied with this ``feast.FeatureStore`` make tables, but remove none."""
    from feast.diff.property_diff import TransitionType

    apply_diffs, provider = store._apply_diffs, store.provider
    update_infra = provider.update_infra

    def apply_without_removing(registry: Any, infra: Any, *given: Any, **more: Any) -> Any:
        infra.infra_object_diffs = [
            one for one in infra.infra_object_diffs if one.transition_type != TransitionType.DELETE
        ]
        return apply_diffs(registry, infra, *given, **more)

    def update_without_removing(*, tables_to_delete: Any, **more: Any) -> Any:
        return update_infra(tables_to_delete=[], **more)

    # Local stores and servers are told in two ways.
    store._apply_diffs = apply_without_removing
    provider.update_infra = update_without_removing
