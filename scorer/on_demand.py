"""On-demand views in the scorer: fields that are computed after the read. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contracts.feature_schema import FeatureSchema
from contracts.on_demand import BrokenCodeError, OnDemandViews
from scorer.errors import ConfigurationError


class DerivedFields:
    """The derived fields of one model's vector.

    Attributes:
        text_inputs: names of the request fields that are strings: inputs of views, in no vector.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        """Load the views' code, which runs it.

        Raises:
            ConfigurationError: the code of a view cannot be loaded.
        """
        try:
            self._views = OnDemandViews(schema)
        except BrokenCodeError as error:
            raise ConfigurationError(str(error)) from error
        self.text_inputs = self._views.text_inputs
        self._width = len(schema.fields)

    def fill(
        self, values: NDArray[np.float64], texts: Sequence[Sequence[str | None]]
    ) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Compute them.

        Args:
            values: float64[N, P], a column for each of ``schema.places``, NaN for null.
            texts: of each row its ``text_inputs``.

        Returns:
            float64[N, W], the vectors, NaN for null; and the rows at which a view failed, with a
            line about it that holds nothing of what was read.
        """
        columns = {name: [row[i] for row in texts] for i, name in enumerate(self.text_inputs)}
        failures = self._views.fill(values, columns)
        vectors = np.ascontiguousarray(values[:, : self._width])
        return vectors, {row: str(failure) for row, failure in sorted(failures.items())}
