"""Tensors by themselves: what is sent is what is read, and nothing else is ever raised."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from scorer.errors import InvalidRequestError
from scorer.foreign import open_inference_pb2 as wire
from scorer.foreign import pool
from scorer.inference_inputs import rows_of, vectors_of
from scorer.inference_outputs import values_of
from scorer.inference_tensors import add_raw_output, add_typed_output, decoded, encoded_tensors
from scorer.scored import Answer, Part, Scored
from scorer.scoring import PIECE_ROWS
from scorer.vector import Missing, MissingReason, Vectors
from scorer.vector_plan import plan_vector
from tests.scorer.inference_requests import FIELDS, INPUTS, matrix, packed, raw, typed
from tests.scorer.shop import SCHEMA
from tests.scorer.test_batcher import load

ROOT = Path(__file__).resolve().parents[2]
PLAN = plan_vector(SCHEMA)
ROWS_MAX = 100
VALUES = {
    "BOOL": st.booleans(),
    "INT32": st.integers(-(2**31), 2**31 - 1),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "UINT64": st.integers(0, 2**64 - 1),
    "FP32": st.floats(width=32),
    "FP64": st.floats(),
    "BYTES": st.binary(max_size=20),
}
TENSORS = st.sampled_from(sorted(VALUES)).flatmap(
    lambda datatype: st.tuples(st.just(datatype), st.lists(VALUES[datatype], max_size=20))
)


_Result = TypeVar("_Result")


def turns(work: Coroutine[Any, Any, _Result]) -> tuple[_Result, int]:
    """What work that only lets others go first comes to, and how often it does so."""
    count = 0
    while True:
        try:
            work.send(None)
        except StopIteration as end:
            return end.value, count
        count += 1


@given(TENSORS)
def test_what_is_sent_is_read(tensor: tuple[str, list[object]]) -> None:
    """Typed and raw contents of any type give the very values that went in."""
    datatype, values = tensor
    for request in (typed({"x": tensor}), raw({"x": tensor})):
        read = decoded(encoded_tensors(request)["x"], ROWS_MAX)
        assert (read.name, read.datatype, read.shape) == ("x", datatype, (len(values),))
        if isinstance(read.values, list):
            assert read.values == values
        else:
            np.testing.assert_array_equal(read.values, np.array(values, read.values.dtype))


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("INT8", "int_contents", [128]),
        ("INT16", "int_contents", [-32769]),
        ("UINT8", "uint_contents", [256]),
        ("UINT16", "uint_contents", [65536]),
    ],
)
def test_a_typed_number_fits_its_type(datatype: str, field: str, values: list[int]) -> None:
    """The field of a small type is wider than the type: what does not fit is refused."""
    request = wire.ModelInferRequest()
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[1])
    getattr(tensor.contents, field).extend(values)
    with pytest.raises(InvalidRequestError, match=f"is not a {datatype}"):
        decoded(encoded_tensors(request)["x"], ROWS_MAX)
    getattr(tensor.contents, field)[0] = 7
    read = decoded(encoded_tensors(request)["x"], ROWS_MAX)
    assert list(read.values) == [7]


def test_a_value_in_the_field_of_another_type_is_refused() -> None:
    """Nobody guesses what an INT64 tensor with floats means."""
    request = wire.ModelInferRequest()
    tensor = request.inputs.add(name="x", datatype="INT64", shape=[1])
    tensor.contents.fp64_contents.append(1.0)
    with pytest.raises(InvalidRequestError, match="int64_contents, not fp64_contents"):
        decoded(encoded_tensors(request)["x"], ROWS_MAX)


_SHAPES = st.lists(st.sampled_from([-1, 0, 1, 2, 3, 6, 101, 2**62]), max_size=3)
_TYPES = st.sampled_from([*FIELDS, "FP16", ""])
_CONTENTS = st.fixed_dictionaries(
    {},
    optional={FIELDS[kind]: st.lists(VALUES[kind], max_size=4) for kind in VALUES},
)
_NAMES = st.sampled_from([*INPUTS, *SCHEMA.names, "card.null", "features", ""])
_INPUT = st.builds(
    wire.ModelInferRequest.InferInputTensor,
    name=_NAMES,
    datatype=_TYPES,
    shape=_SHAPES,
    contents=st.none() | _CONTENTS,
)
_FITTING = st.sampled_from([typed(), raw(), matrix([[1.0] * 6] * 2)])


@given(
    st.builds(
        wire.ModelInferRequest,
        inputs=st.lists(_INPUT, max_size=7),
        raw_input_contents=st.lists(st.binary(max_size=30), max_size=7),
    ),
    _FITTING,
    st.lists(st.integers(0, 6), max_size=6),
)
def test_any_message_is_understood_or_refused(
    drawn: wire.ModelInferRequest, fitting: wire.ModelInferRequest, places: list[int]
) -> None:
    """Whatever tensors come, the result is vectors, rows, or InvalidRequestError."""
    mixed = wire.ModelInferRequest.FromString(fitting.SerializeToString())
    for place in places:
        if place < min(len(drawn.inputs), len(mixed.inputs)):
            drawn.inputs[place].name = mixed.inputs[place].name
            mixed.inputs[place].CopyFrom(drawn.inputs[place])
        elif place < min(len(drawn.raw_input_contents), len(mixed.raw_input_contents)):
            mixed.raw_input_contents[place] = drawn.raw_input_contents[place]
    for request in (drawn, mixed):
        try:
            tensors = encoded_tensors(request)
            vectors = vectors_of(PLAN, tensors, ROWS_MAX)
            if vectors is None:
                rows, _ = turns(rows_of(PLAN, tensors, ROWS_MAX))
                assert all(row.keys() == PLAN.input_types.keys() for row in rows)
            else:
                assert vectors.dtype == np.float64
        except InvalidRequestError:
            pass


@pytest.mark.parametrize("made", [typed, raw])
def test_many_rows_are_made_in_pieces(made: Callable[..., wire.ModelInferRequest]) -> None:
    """Others get their turn after 512 rows at the latest; the rows are the same as of few."""
    pieces = 4
    many = {
        name: (kind, list(values) * (pieces * PIECE_ROWS // 2))
        for name, (kind, values) in INPUTS.items()
    }
    few, _ = turns(rows_of(PLAN, encoded_tensors(made(INPUTS)), 10_000))
    rows, count = turns(rows_of(PLAN, encoded_tensors(made(many)), 10_000))
    assert rows == few * (pieces * PIECE_ROWS // 2)
    # Besides, each tensor is read in a turn of its own, and looked through in another.
    assert count >= pieces - 1 + 2 * len(INPUTS)


def test_many_texts_are_made_in_pieces() -> None:
    """An answer that says of each row what was missing lets others go first, too."""
    pieces = 4
    missing = [(Missing(3, MissingReason.NO_ROW),), ()] * (pieces * PIECE_ROWS // 2)
    times: list[int | None] = [None] * len(missing)
    vectors = Vectors(np.zeros((len(missing), 6)), missing, times, times)
    scored = Scored(load("1"), [0.5] * len(missing), vectors, 0)
    texts, count = turns(values_of(Answer((Part("", range(len(missing)), scored),)), "missing"))
    assert texts == [b'{"card_1h:spent": "no_row"}', b"{}"] * (len(missing) // 2)
    assert count >= pieces - 1


@given(st.lists(st.floats()), st.lists(st.binary()))
def test_outputs_can_be_read_by_the_same_rules(scores: list[float], texts: list[bytes]) -> None:
    """What the answer holds, raw or typed, is what a reader of the protocol finds in it."""
    answer = wire.ModelInferResponse()
    add_raw_output(answer, "score", np.array(scores))
    add_raw_output(answer, "missing", texts)
    assert list(answer.raw_output_contents) == [packed("FP64", scores), packed("BYTES", texts)]
    answer = wire.ModelInferResponse()
    add_typed_output(answer, "score", np.array(scores))
    add_typed_output(answer, "missing", texts)
    np.testing.assert_array_equal(list(answer.outputs[0].contents.fp64_contents), scores)
    assert list(answer.outputs[1].contents.bytes_contents) == texts
    assert [(one.datatype, list(one.shape)) for one in answer.outputs] == [
        ("FP64", [len(scores)]),
        ("BYTES", [len(texts)]),
    ]


def test_other_peoples_stubs_fit_into_the_same_process() -> None:
    """The same full names may be in protobuf's default pool, from another file."""
    program = """
from google.protobuf import descriptor_pb2, descriptor_pool
from scorer.foreign import open_inference_pb2 as ours
theirs = descriptor_pb2.FileDescriptorProto.FromString(ours.DESCRIPTOR.serialized_pb)
theirs.name = "grpc_predict_v2.proto"
descriptor_pool.Default().Add(theirs)
found = descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
assert found is not ours.ModelInferRequest.DESCRIPTOR
assert ours.ModelInferRequest.FromString(b"\\x0a\\x01m").model_name == "m"
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_a_pool_of_files_has_what_they_import() -> None:
    """Reflection's pool holds files of both pools, each once, with their imports."""
    timestamp = Timestamp.DESCRIPTOR.file
    both = pool.pool_of(wire.DESCRIPTOR, descriptor_pb2.DESCRIPTOR, timestamp, wire.DESCRIPTOR)
    found = both.FindFileContainingSymbol(wire.ModelInferRequest.DESCRIPTOR.full_name)
    assert found.name == wire.DESCRIPTOR.name
    assert both.FindFileByName(timestamp.name).serialized_pb == timestamp.serialized_pb
    assert pool.Default() is not descriptor_pool.Default()
