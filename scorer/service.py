"""The servicer of ``scorer.v1``: from messages to the domain and back, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from scorer.answering import Answering, Asked
from scorer.calls import Call, Calls, Context
from scorer.errors import ModelFaultError
from scorer.explain_calls import ExplainCalls
from scorer.features_service import FeatureCalls
from scorer.messages import Messages, rows_of, to_us
from scorer.model_pool import ModelPool
from scorer.scoring import Scoring
from scorer.streams import Streams
from scorer.v1 import scorer_pb2, scorer_pb2_grpc

NAME = scorer_pb2.DESCRIPTOR.services_by_name["ScorerService"].full_name


class ScorerService(scorer_pb2_grpc.ScorerServiceServicer):
    """Answers calls with what the pool and the scoring give."""

    def __init__(
        self,
        calls: Calls,
        pool: ModelPool,
        scoring: Scoring,
        answering: Answering,
        messages: Messages,
        streams: Streams,
        explain_calls: ExplainCalls,
        feature_calls: FeatureCalls,
    ) -> None:
        """``calls`` runs the work of each call."""
        self._calls = calls
        self._pool = pool
        self._scoring = scoring
        self._answering = answering
        self._messages = messages
        self._streams = streams
        self._explain_calls = explain_calls
        self._feature_calls = feature_calls

    async def Score(  # noqa: N802 - gRPC names it
        self, request: scorer_pb2.ScoreRequest, context: Context
    ) -> scorer_pb2.ScoreResponse:
        """See the proto."""
        return await self._calls.answer(f"{NAME}/Score", self.score, request, context)

    async def ScoreStream(  # noqa: N802 - gRPC names it
        self, request_iterator: AsyncIterator[scorer_pb2.ScoreRequest], context: Context
    ) -> AsyncIterator[scorer_pb2.ScoreStreamResponse]:
        """See the proto."""
        method = f"{NAME}/ScoreStream"
        async for answer in self._streams.answer(method, self.score, request_iterator, context):
            yield answer

    async def GetFeatures(  # noqa: N802 - gRPC names it
        self, request: scorer_pb2.GetFeaturesRequest, context: Context
    ) -> scorer_pb2.GetFeaturesResponse:
        """See the proto."""
        method = f"{NAME}/GetFeatures"
        return await self._calls.answer(method, self._feature_calls.get, request, context)

    async def Explain(  # noqa: N802 - gRPC names it
        self, request: scorer_pb2.ExplainRequest, context: Context
    ) -> scorer_pb2.ExplainResponse:
        """See the proto."""
        method = f"{NAME}/Explain"
        return await self._calls.answer(method, self._explain_calls.explain, request, context)

    async def ListModels(  # noqa: N802 - gRPC names it
        self, request: scorer_pb2.ListModelsRequest, context: Context
    ) -> scorer_pb2.ListModelsResponse:
        """See the proto."""
        return await self._calls.answer(f"{NAME}/ListModels", self._list_models, request, context)

    async def GetModel(  # noqa: N802 - gRPC names it
        self, request: scorer_pb2.GetModelRequest, context: Context
    ) -> scorer_pb2.GetModelResponse:
        """See the proto."""
        return await self._calls.answer(f"{NAME}/GetModel", self._get_model, request, context)

    async def score(self, request: scorer_pb2.ScoreRequest, call: Call) -> scorer_pb2.ScoreResponse:
        """One request, alone or of a stream."""
        call.request_id = request.request_id
        at_us = to_us(request.event_time) if request.HasField("event_time") else None
        version, channel = request.version, request.channel
        if version or channel:
            target = await self._answering.target(call, request.model, version, channel)
        else:
            target = self._answering.free_target(call, request.model)
        # First of all: a small message can have millions of empty rows.
        self._scoring.check_count(call, len(request.rows))
        with self._scoring.room(len(request.rows)):
            rows = await rows_of(request.rows, target.model.plan)
            keys = [row.key for row in request.rows]
            answer = await self._answering.score(call, target, Asked(rows, keys, at_us))
            return await self._messages.response(request, answer)

    async def _list_models(
        self, request: scorer_pb2.ListModelsRequest, call: Call
    ) -> scorer_pb2.ListModelsResponse:
        return scorer_pb2.ListModelsResponse(
            models=[
                self._summary(name, channels)
                for name, channels in self._pool.models()
                if call.caller.may_use(name)
            ]
        )

    def _summary(self, name: str, channels: Mapping[str, str]) -> scorer_pb2.ModelSummary:
        weights, salt = self._pool.weights(name)
        return scorer_pb2.ModelSummary(
            model=name,
            version=channels.get("champion", ""),
            channels=channels,
            weights=weights,
            salt=salt,
        )

    async def _get_model(
        self, request: scorer_pb2.GetModelRequest, call: Call
    ) -> scorer_pb2.GetModelResponse:
        model = await self._scoring.model(call, request.model, request.version, request.channel)
        manifest, plan = model.manifest, model.plan
        trained_until = Timestamp()
        try:
            trained_until.FromMicroseconds(manifest.trained_until_us)
        except ValueError as error:
            raise ModelFaultError(
                f"{model} says that it was trained until a time that cannot be; publish another"
            ) from error
        return scorer_pb2.GetModelResponse(
            model=manifest.model,
            version=manifest.version,
            inputs=[
                scorer_pb2.ModelInput(
                    name=name,
                    type=plan.input_types[name][0],
                    entity_key=name in plan.entity_inputs,
                )
                for name in sorted(plan.input_types)
            ],
            feature_names=manifest.schema.names,
            fingerprint=manifest.fingerprint,
            learner=manifest.learner,
            trained_until=trained_until,
            examples=manifest.examples,
            metrics=manifest.metrics,
            task=manifest.task,
            classes=manifest.classes,
            assign_by=manifest.assign_by,
        )
