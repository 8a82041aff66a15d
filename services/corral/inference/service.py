"""The gRPC Inference service: requests in, answers streamed out.

Turns messages of corral.v1 into values and back, and ties catalog, cache and engine together. Knows
nothing of tensors, Redis or files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import grpc

from corral.data.conversation import Message
from corral.errors import InvalidRequestError
from corral.generation.answers import FinishReason
from corral.generation.prompts import chat_prompt, check_messages, raw_prompt
from corral.inference.engine import Answered, Engine, Output
from corral.inference.loaded import ModelCache
from corral.inference.models import Catalog, ServableModel
from corral.rpc.serving import Register
from corral.sampling import parse_sampling
from corral.v1 import inference_pb2 as pb
from corral.v1 import inference_pb2_grpc

if TYPE_CHECKING:
    from corral.generation.loading import LoadedModel

SERVICE = "corral.v1.Inference"
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
# A request's prompt in the tokens of the model that it names.
MakePrompt: TypeAlias = "Callable[[LoadedModel], list[int]]"

_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}


class InferenceService(inference_pb2_grpc.InferenceServicer):
    """Handlers only; CorralErrors leave them as they are and are mapped by corral.rpc."""

    def __init__(self, catalog: Catalog, cache: ModelCache[LoadedModel], engine: Engine) -> None:
        self._catalog = catalog
        self._cache = cache
        self._engine = engine

    async def ListModels(  # noqa: N802 - the contract's name
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        page = await self._catalog.list_page(_page_size(request.page_size), request.page_token)
        models = [self._to_proto(model) for model in page.models]
        return pb.ListModelsResponse(models=models, next_page_token=page.next_token)

    async def GetModel(  # noqa: N802 - the contract's name
        self, request: pb.GetModelRequest, context: Context
    ) -> pb.GetModelResponse:
        model = await self._catalog.resolve(request.model)
        return pb.GetModelResponse(model=self._to_proto(model))

    async def Chat(  # noqa: N802 - the contract's name
        self, request: pb.ChatRequest, context: Context
    ) -> AsyncIterator[pb.ChatResponse]:
        arrived_at = time.monotonic()
        messages = _messages(request.messages)
        # Before a model is loaded for nothing.
        check_messages(messages)

        def make_prompt(model: LoadedModel) -> list[int]:
            return chat_prompt(model, messages)

        answer = self._answer(request.model, make_prompt, request.sampling, arrived_at)
        async with aclosing(answer) as events:
            async for event in events:
                if isinstance(event, pb.Finish):
                    yield pb.ChatResponse(finish=event)
                else:
                    yield pb.ChatResponse(text=event)

    async def Generate(  # noqa: N802 - the contract's name
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.GenerateResponse]:
        arrived_at = time.monotonic()

        def make_prompt(model: LoadedModel) -> list[int]:
            return raw_prompt(model, request.prompt)

        answer = self._answer(request.model, make_prompt, request.sampling, arrived_at)
        async with aclosing(answer) as events:
            async for event in events:
                if isinstance(event, pb.Finish):
                    yield pb.GenerateResponse(finish=event)
                else:
                    yield pb.GenerateResponse(text=event)

    async def _answer(
        self,
        name: str,
        make_prompt: MakePrompt,
        sampling: pb.SamplingOptions,
        arrived_at: float,
    ) -> AsyncGenerator[str | pb.Finish]:
        """Pieces of text, then the finish. Times count from `arrived_at`, of time.monotonic."""
        options = parse_sampling(_sampling_fields(sampling))
        servable = await self._catalog.resolve(name)
        async with self._cache.use(servable.folder) as model:
            # In a thread: rendering and encoding a long conversation takes a while.
            prompt_ids = await asyncio.to_thread(make_prompt, model)
            async with aclosing(self._engine.submit(model, prompt_ids, options)) as outputs:
                async for output in outputs:
                    yield _event(output, servable.name, arrived_at)

    def _to_proto(self, model: ServableModel) -> pb.Model:
        message = pb.Model(
            name=model.name,
            is_base=model.origin is None,
            is_loaded=self._cache.is_loaded(model.folder),
            size_bytes=model.size_bytes,
        )
        if origin := model.origin:
            message.base_model = origin.base_model
            message.job_id = origin.job_id
            message.step = origin.step
            message.template = origin.template
            message.created_at.FromDatetime(datetime.fromtimestamp(origin.created_at, UTC))
        return message


def registration(service: InferenceService) -> Register:
    """What corral.rpc.serving registers."""

    def register(server: grpc.aio.Server) -> Sequence[str]:
        inference_pb2_grpc.add_InferenceServicer_to_server(service, server)
        return (SERVICE,)

    return register


# ---------------------------------------------------------------- requests


def _page_size(asked: int) -> int:
    if not 0 <= asked <= MAX_PAGE_SIZE:
        raise InvalidRequestError(f"page_size: {asked} is not between 0 and {MAX_PAGE_SIZE}.")
    return asked or DEFAULT_PAGE_SIZE


def _messages(messages: Sequence[pb.Message]) -> list[Message]:
    return [
        Message(_role(message.role, index), message.content, message.input)
        for index, message in enumerate(messages)
    ]


def _role(role: pb.Role, index: int) -> Literal["system", "user", "assistant"]:
    if role == pb.ROLE_SYSTEM:
        return "system"
    if role == pb.ROLE_USER:
        return "user"
    if role == pb.ROLE_ASSISTANT:
        return "assistant"
    raise InvalidRequestError(
        f"messages[{index}] has no role.", "Roles are system, user and assistant."
    )


def _sampling_fields(message: pb.SamplingOptions) -> dict[str, Any]:
    """The fields that a client set, by the names that they have on both sides."""
    fields = {field.name: value for field, value in message.ListFields()}
    return fields | {"stop": tuple(message.stop)}


# ---------------------------------------------------------------- responses


def _event(output: Output, model: str, arrived_at: float) -> str | pb.Finish:
    if not isinstance(output, Answered):
        return output.text
    finish = output.finish
    # The first token came at the beginning of the span, so one token less was made within it.
    span = output.last_token_at - output.first_token_at
    made = finish.completion_tokens - 1
    return pb.Finish(
        reason=_REASONS[finish.reason],
        model=model,
        prompt_tokens=finish.prompt_tokens,
        completion_tokens=finish.completion_tokens,
        time_to_first_token=timedelta(seconds=output.first_token_at - arrived_at),
        total_time=timedelta(seconds=time.monotonic() - arrived_at),
        tokens_per_second=made / span if span > 0 else 0.0,
    )
