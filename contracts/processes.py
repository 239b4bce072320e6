"""The settings of every kind of process."""

from __future__ import annotations

from contracts.scorer_settings import ScorerSettings
from contracts.settings import ClientSettings, DataflowSettings, EvaluatorSettings, Settings

PROCESSES: tuple[type[Settings], ...] = (
    DataflowSettings,
    EvaluatorSettings,
    ScorerSettings,
    ClientSettings,
)
