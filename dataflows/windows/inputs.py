"""What a view's state takes of each row: which columns, as which numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from contracts.plan import Aggregate, View

InputKind = Literal["number", "text", "hash", "presence"]


@dataclass(frozen=True)
class Input:
    """One column of the values that rows bring to a view; NaN is null in all of them.

    Attributes:
        column: name in the topic, or in what the view's transformation gives.
        kind: ``number`` is the value itself (a boolean is 0 or 1, a time its microseconds since
            1970); ``text`` the place of a string in a list; ``hash`` 53 well mixed bits of the
            value, for counting distinct ones; ``presence`` is 1 for whatever is not null.
    """

    column: str
    kind: InputKind


@dataclass(frozen=True, eq=False)
class KeyList:
    """Entity keys of one kind, of one shard, that one worker has met; it only ever grows."""

    keys: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class TextList:
    """Strings that one worker has met; it only ever grows."""

    texts: list[str] = field(default_factory=list)


def inputs_of(view: View) -> tuple[Input, ...]:
    """The distinct inputs of a view, in the order of their first use."""
    return tuple(dict.fromkeys(input_of(aggregate) for aggregate in view.aggregates))


def input_of(aggregate: Aggregate) -> Input:
    """What an aggregate takes of a row."""
    return Input(aggregate.column, _kind(aggregate))


def _kind(aggregate: Aggregate) -> InputKind:
    if aggregate.function == "count_distinct":
        return "hash"
    if aggregate.column_type != "string":
        return "number"
    # Nothing else is left for strings; they need not be remembered to be counted.
    return "presence" if aggregate.function == "count" else "text"
