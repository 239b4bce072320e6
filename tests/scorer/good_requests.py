"""A request of each method of the scorer's that has an answer, in the small shop."""

from __future__ import annotations

from google.protobuf.message import Message

from scorer.client import ScoreOptions, score_request
from scorer.foreign import feast_serving_pb2, open_inference_pb2
from scorer.v1 import scorer_pb2
from tests.scorer.shop import MODEL, NOON_US, ROW, VECTOR

AT_NOON = ScoreOptions(event_time_us=NOON_US)


def _inference() -> open_inference_pb2.ModelInferRequest:
    request = open_inference_pb2.ModelInferRequest(model_name=MODEL, id="i")
    for name, value in ROW.items():
        tensor = request.inputs.add(name=name, shape=[1])
        if isinstance(value, bool):
            tensor.datatype = "BOOL"
            tensor.contents.bool_contents.append(value)
        elif isinstance(value, str):
            tensor.datatype = "BYTES"
            tensor.contents.bytes_contents.append(value.encode())
        elif isinstance(value, int):
            tensor.datatype = "INT64"
            tensor.contents.int64_contents.append(value)
        elif isinstance(value, float):
            tensor.datatype = "FP64"
            tensor.contents.fp64_contents.append(value)
    return request


def _vectors() -> open_inference_pb2.ModelInferRequest:
    request = open_inference_pb2.ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name="features", datatype="FP64", shape=[1, len(VECTOR)])
    tensor.contents.fp64_contents.extend(VECTOR)
    return request


def _raw_vectors() -> open_inference_pb2.ModelInferRequest:
    request = open_inference_pb2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="features", datatype="FP64", shape=[2, len(VECTOR)])
    request.raw_input_contents.append(bytes(16 * len(VECTOR)))
    return request


def _feast() -> feast_serving_pb2.GetOnlineFeaturesRequest:
    request = feast_serving_pb2.GetOnlineFeaturesRequest(feature_service="card")
    request.entities["card"].val.add(int64_val=42)
    return request


_ROW = score_request(MODEL, ROW).rows[0]
_CARD = scorer_pb2.Row(inputs={"card": scorer_pb2.Value(int64_value=42)})
# Service/method -> requests that have an answer.
GOOD: dict[str, list[Message]] = {
    "scorer.v1.ScorerService/Score": [score_request(MODEL, [ROW, ROW], AT_NOON)],
    "scorer.v1.ScorerService/ScoreStream": [score_request(MODEL, ROW, AT_NOON)],
    "scorer.v1.ScorerService/GetFeatures": [
        scorer_pb2.GetFeaturesRequest(feature_service="card", rows=[_CARD]),
        scorer_pb2.GetFeaturesRequest(
            features=scorer_pb2.FeatureNames(names=["card_1h:spent"]), rows=[_CARD, _CARD]
        ),
    ],
    "scorer.v1.ScorerService/Explain": [
        scorer_pb2.ExplainRequest(model=MODEL, row=_ROW, baseline={"amount": 1.0}, samples=10)
    ],
    "scorer.v1.ScorerService/ListModels": [scorer_pb2.ListModelsRequest()],
    "scorer.v1.ScorerService/GetModel": [scorer_pb2.GetModelRequest(model=MODEL, version="1")],
    "inference.GRPCInferenceService/ServerLive": [open_inference_pb2.ServerLiveRequest()],
    "inference.GRPCInferenceService/ServerReady": [open_inference_pb2.ServerReadyRequest()],
    "inference.GRPCInferenceService/ModelReady": [open_inference_pb2.ModelReadyRequest(name=MODEL)],
    "inference.GRPCInferenceService/ServerMetadata": [open_inference_pb2.ServerMetadataRequest()],
    "inference.GRPCInferenceService/ModelMetadata": [
        open_inference_pb2.ModelMetadataRequest(name=MODEL, version="1")
    ],
    "inference.GRPCInferenceService/ModelInfer": [_inference(), _vectors(), _raw_vectors()],
    "feast.serving.ServingService/GetFeastServingInfo": [
        feast_serving_pb2.GetFeastServingInfoRequest()
    ],
    "feast.serving.ServingService/GetOnlineFeatures": [_feast()],
}
GOOD["GrpcFeatureServer/GetOnlineFeatures"] = GOOD["feast.serving.ServingService/GetOnlineFeatures"]
