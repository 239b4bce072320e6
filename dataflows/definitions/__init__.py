"""From ``definitions.py`` to a plan. Imports Feast, which takes seconds."""

from __future__ import annotations

from dataflows.definitions.feast_checks import keep_feast_checks

# Before any module of this package imports Feast.
keep_feast_checks()
