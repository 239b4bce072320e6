"""What can go wrong between the model repository and MLflow."""

from __future__ import annotations


class RegistryError(Exception):
    """MLflow cannot be used, or does not have what was asked; the text says what to do."""
