"""Where Redis bears the mark of the generation that an online store belongs to.

Writers check it in the step in which they write. A refill touches it in the step that puts new
values in place, so a reader that watches it knows of a read that straddled that step.
"""

from __future__ import annotations


def mark_key(project: str) -> str:
    """The key of a project's mark."""
    # Does not end with the project, as Feast's keys do, so nobody takes it for an entity.
    return f"headwater:{project}:generation"
