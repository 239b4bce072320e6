"""The scorer that one would write with Feast's SDK: read features, build the vector, run the model.

    python -m benchmarks.scorer.feast_sdk FOLDER MODEL.onnx HOW

HOW is ``async`` (``get_online_features_async``) or ``threads`` (``get_online_features`` in a pool
of threads; in the event loop itself it is no faster). It does nothing that can be left out:
features are a constant list, values are taken out of the response's message, not out of
``to_dict``, and there are no metrics, no prediction log, no checks of the request.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from feast import FeatureStore

from benchmarks._scorer_world import JOIN_KEYS, REQUEST_FIELDS, feature_refs
from benchmarks.scorer.echo import listen
from scorer.v1 import scorer_pb2

_REQUESTED = [f"r{place}" for place in range(REQUEST_FIELDS)]


class FeastScorer:
    """Scores with one model."""

    def __init__(self, folder: str, onnx: bytes, how: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            onnx, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self._store = FeatureStore(repo_path=folder)
        self._refs = feature_refs()
        self._read = {"async": self._read_async, "threads": self._read_in_thread}[how]

    async def score(
        self, request: scorer_pb2.ScoreRequest, context: Any
    ) -> scorer_pb2.ScoreResponse:
        """All rows of a request."""
        given = [row.inputs for row in request.rows]
        keys: dict[str, list[Any]] = {
            name: [getattr(row[name], f"{kind}_value") for row in given]
            for name, kind in JOIN_KEYS.items()
        }
        found = (await self._read(keys)).proto
        columns = dict(zip(found.metadata.feature_names.val, found.results, strict=True))
        matrix = np.empty((len(given), REQUEST_FIELDS + len(self._refs)))
        for number, row in enumerate(given):
            matrix[number, :REQUEST_FIELDS] = [row[name].double_value for name in _REQUESTED]
        for place, ref in enumerate(self._refs, REQUEST_FIELDS):
            column = columns[ref.replace(":", "__")]
            matrix[:, place] = [value.double_val for value in column.values]
        (scores,) = self._session.run([self._output], {self._input: matrix})
        response = scorer_pb2.ScoreResponse(model=request.model, version="1")
        for score in scores.reshape(len(given), -1)[:, -1].tolist():
            response.scores.add(score=score)
        return response

    async def _read_async(self, keys: dict[str, list[Any]]) -> Any:
        return await self._store.get_online_features_async(
            features=self._refs, entity_rows=keys, full_feature_names=True
        )

    async def _read_in_thread(self, keys: dict[str, list[Any]]) -> Any:
        return await asyncio.to_thread(self._read_now, keys)

    def _read_now(self, keys: dict[str, list[Any]]) -> Any:
        return self._store.get_online_features(
            features=self._refs, entity_rows=keys, full_feature_names=True
        )


if __name__ == "__main__":
    folder, model, how = sys.argv[1:]
    asyncio.run(listen(FeastScorer(folder, Path(model).read_bytes(), how).score))
