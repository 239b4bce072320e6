"""From ``definitions.py`` to a plan. Imports Feast, which takes seconds."""
