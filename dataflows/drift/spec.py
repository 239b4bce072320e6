"""What is watched for drift: the columns of one model, and the settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from contracts.plan import DriftPlan, ModelPlan

# A window is this many blocks: it moves by one, and is compared after each.
BLOCKS = 10
# Of the reference, the share that says where cells begin and end; the others are counted in them.
SAMPLE_SHARE = 5


@dataclass(frozen=True)
class DriftSpec:
    """One model to watch.

    Attributes:
        model: name.
        features: names of the vector's fields.
        is_nominal: of each field, whether its numbers are codes of texts, without an order.
        plan: the settings.
    """

    model: str
    features: tuple[str, ...]
    is_nominal: tuple[bool, ...]
    plan: DriftPlan

    @classmethod
    def of(cls, model: ModelPlan, plan: DriftPlan) -> DriftSpec:
        """The spec of a model; without labels there are no errors to watch."""
        nominal = tuple(field.dtype == "string" for field in model.schema.fields)
        watched = plan if model.label_topic else replace(plan, error=None)
        return cls(model.name, model.schema.names, nominal, watched)

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return self.plan.window_rows // BLOCKS

    @property
    def warmup_blocks(self) -> int:
        """Blocks before the reference."""
        return _blocks(self.plan.warmup_rows, self.block_rows)

    @property
    def sample_blocks(self) -> int:
        """Blocks of the reference from which the cells are learned."""
        return _blocks(self.plan.reference_rows // SAMPLE_SHARE, self.block_rows)

    @property
    def counted_blocks(self) -> int:
        """Blocks of the reference that are counted in the cells."""
        return max(1, _blocks(self.plan.reference_rows, self.block_rows) - self.sample_blocks)

    @property
    def renew_blocks(self) -> int | None:
        """Blocks that drift must last for the reference to be renewed; None never does."""
        rows = self.plan.renew_after_rows
        return None if rows is None else _blocks(rows, self.block_rows)


def _blocks(rows: int, block_rows: int) -> int:
    return -(-rows // block_rows)
