"""Between what probabilities are held before their logarithm is taken."""

from __future__ import annotations

# Of figures for people: as River's LogLoss has it, so that one sure error is not infinite.
PROBABILITY_MIN = 1e-15
PROBABILITY_MAX = 1 - PROBABILITY_MIN
# Where losses decide something (drift, rollouts): one row must not decide alone. A sure and wrong
# prediction loses ln(1000).
DECIDING_PROBABILITY_MIN = 1e-3
