"""What differs between two definitions of a topic or of a view, in words."""

from __future__ import annotations

from dataclasses import replace

from contracts.plan import Aggregate, Topic, View
from dataflows.changes.detail import Detail, moved, moved_members, moved_us, shown_us

_SERVED_ONLY = "none (served only)"
# What nobody has words for is a change all the same.
_UNNAMED = Detail("its definition changed")


def topic_details(before: Topic, after: Topic) -> tuple[Detail, ...]:
    """What differs between two topics of one name; none if they are the same."""
    found = moved_members("column", _columns(before), _columns(after))
    found += moved("timestamp field", before.timestamp_field, after.timestamp_field)
    found += moved_us("watermark delay", before.watermark_delay_us, after.watermark_delay_us, "0 s")
    found += moved("key field", before.key_field, after.key_field)
    found += moved("format", before.format, after.format)
    if before.schema != after.schema:
        found.append(Detail("schema of its records changed"))
    found += moved("framing", before.framing, after.framing)
    found += moved("field mapping", _mapping(before), _mapping(after))
    if before != after and not found:
        found.append(_UNNAMED)
    return tuple(found)


def view_details(
    before: View, after: View, code_before: str | None, code_after: str | None
) -> tuple[Detail, ...]:
    """What differs between two views of one name; none if they are the same.

    Args:
        before: its plan then; ``offline_path`` counts from the repository.
        after: its plan now.
        code_before: digest of its function's code then; None if it is not known.
        code_after: now.
    """
    found = moved("topic", before.topic, after.topic)
    found += moved("entity key", _key(before), _key(after))
    found += moved_members("feature", _features(before), _features(after))
    found += moved_us("ttl", before.ttl_us, after.ttl_us, "none")
    found += _offline(before, after)
    if bool(before.exact_tiles_max) != bool(after.exact_tiles_max):
        kinds = ["exact" if one.exact_tiles_max else "hopping" for one in (before, after)]
        found += moved("windows", *kinds)
    else:
        found += moved("exact tiles", before.exact_tiles_max, after.exact_tiles_max)
    found += moved("distinct bits", before.distinct_bits, after.distinct_bits)
    found += moved("mode of its function", before.transform, after.transform)
    if None not in (code_before, code_after) and code_before != code_after:
        # What the function is called stands in the code, not in the plan.
        found.append(Detail("code of its function changed"))
    same_folder = replace(before, offline_path=after.offline_path)
    if same_folder != after and not any(one.rebuilds for one in found):
        found.append(_UNNAMED)
    return tuple(found)


def window_us(view: View) -> int | None:
    """How far back the values of a view reach; None for the whole history."""
    if any(not aggregate.window_us for aggregate in view.aggregates):
        return None
    return max(aggregate.window_us for aggregate in view.aggregates)


def _columns(topic: Topic) -> dict[str, str]:
    return {c.name: c.dtype + ("" if c.nullable else " not null") for c in topic.columns}


def _mapping(topic: Topic) -> tuple[str, ...]:
    return tuple(f"{name} as {column}" for name, column in topic.field_mapping)


def _key(view: View) -> tuple[str, ...]:
    return tuple(
        f"{name} {kind}" for name, kind in zip(view.join_keys, view.join_key_types, strict=True)
    )


def _features(view: View) -> dict[str, str]:
    return {one.feature: _words(one) for one in view.aggregates}


def _words(one: Aggregate) -> str:
    text = f"{one.function} of {one.column} {one.column_type}"
    if one.window_us:
        # Exact windows move by the microsecond; that they are exact is told of the view.
        hop = f" by {shown_us(one.hop_us)}" if one.hop_us > 1 else ""
        text += f" over {shown_us(one.window_us)}{hop}"
    return f"{text} as {one.dtype}"


def _offline(before: View, after: View) -> list[Detail]:
    if bool(before.offline_path) != bool(after.offline_path):
        paths = [one.offline_path or _SERVED_ONLY for one in (before, after)]
        return moved("offline rows", *paths)
    if before.offline_path != after.offline_path:
        # The state does not know where the folder is.
        text = f"{before.offline_path} -> {after.offline_path}; move the files of {before.name}"
        return [Detail(f"offline folder: {text}", rebuilds=False)]
    return []
