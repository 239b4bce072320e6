"""Outputs of the Open Inference Protocol: what a model has, and their values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import numpy as np

from scorer.errors import InvalidRequestError
from scorer.foreign import open_inference_pb2 as wire
from scorer.inference_tensors import BYTES, Values, check_hints
from scorer.model import OUTPUT, PROBABILITIES, LoadedModel, Outputs
from scorer.scored import Answer, Part, aligned, labels_of
from scorer.scoring import PIECE_ROWS

MISSING, VERSION, LABEL = "missing", "version", "label"


def outputs_of(model: LoadedModel) -> dict[str, tuple[str, list[int]]]:
    """Name -> datatype and shape, -1 for the number of rows."""
    found = {OUTPUT: ("FP64", [-1]), MISSING: (BYTES, [-1]), VERSION: (BYTES, [-1])}
    if model.is_multiclass:
        found[LABEL] = (BYTES, [-1])
        found[PROBABILITIES] = ("FP64", [-1, len(model.manifest.classes)])
    return found


def wanted_outputs(request: wire.ModelInferRequest, model: LoadedModel) -> list[str]:
    """Names of the outputs that the answer has; ``score`` alone if none is named.

    Raises:
        InvalidRequestError: the model has no such output, it is named twice, or with parameters
            that are not known to be mere hints.
    """
    names: list[str] = []
    known = outputs_of(model)
    for output in request.outputs:
        if output.name not in known:
            raise InvalidRequestError(
                f"unknown output {output.name!r:.120}; there are: {', '.join(known)}"
            )
        if output.name in names:
            raise InvalidRequestError(f"output {output.name!r} is there twice; give it once")
        check_hints(output.parameters, f"output {output.name!r}")
        names.append(output.name)
    return names or [OUTPUT]


async def values_of(answer: Answer, name: str) -> Values:
    """The values of an output, in the order of the request's rows.

    Others get their turn in between: thousands of texts take milliseconds.
    """
    if len(answer.parts) == 1:
        return await _values_of_part(answer, answer.parts[0], name)
    order = np.argsort([number for part in answer.parts for number in part.rows]).tolist()
    parts = [await _values_of_part(answer, part, name) for part in answer.parts]
    if name in (OUTPUT, PROBABILITIES):
        found: Values = np.concatenate(parts)[order]
        return found
    texts = [text for part in parts for text in part]
    return [texts[place] for place in order]


async def values_of_vectors(model: LoadedModel, outputs: Outputs, name: str) -> Values:
    """The same for vectors that the caller brought, of which nothing is missing."""
    count = len(outputs.scores)
    if name == OUTPUT:
        return outputs.scores
    if name == MISSING:
        return [b"{}"] * count
    if name == VERSION:
        return [model.manifest.version.encode()] * count
    assert outputs.probabilities is not None
    if name == PROBABILITIES:
        return outputs.probabilities
    return _encoded(labels_of(model.manifest.classes, outputs.probabilities))


async def _values_of_part(answer: Answer, part: Part, name: str) -> Values:
    scored = part.scored
    manifest = scored.model.manifest
    if name == OUTPUT:
        return np.array(scored.scores)
    if name == PROBABILITIES:
        return aligned(scored, answer.classes)
    if name == LABEL:
        return _encoded(scored.labels())
    if name == VERSION:
        return [manifest.version.encode()] * len(scored.scores)
    names = manifest.schema.names
    missing = scored.vectors.missing
    texts: list[bytes] = []
    for start in range(0, len(missing), PIECE_ROWS):
        if start:
            await asyncio.sleep(0)
        texts += [
            json.dumps({names[one.position]: one.reason.name.lower() for one in places}).encode()
            for places in missing[start : start + PIECE_ROWS]
        ]
    return texts


def _encoded(texts: Sequence[str]) -> list[bytes]:
    return [text.encode() for text in texts]
