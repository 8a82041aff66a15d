"""The gRPC Inference service: requests in, answers streamed out.

Turns messages of corral.v1 into values and back, and ties catalog, cache and engine together. Knows
nothing of tensors, Redis or files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import grpc

from corral.data.conversation import Message
from corral.errors import InvalidRequestError
from corral.generation.answers import FinishReason, Likelihood, Piece
from corral.generation.prompts import (
    FittedPrompt,
    answered_ids,
    chat_prompt,
    check_answered,
    check_messages,
    fitted_prompt,
    raw_prompt,
)
from corral.inference.engine import Engine
from corral.inference.loaded import ModelCache
from corral.inference.models import Catalog, ServableModel
from corral.inference.requests import Answered
from corral.inference.templates import template_asked
from corral.rpc.serving import Register
from corral.sampling import SamplingOptions, parse_sampling
from corral.v1 import inference_pb2 as pb
from corral.v1 import inference_pb2_grpc

if TYPE_CHECKING:
    from corral.data.templates import PromptTemplate
    from corral.generation.loading import LoadedModel
    from corral.generation.scoring import Scored

SERVICE = "corral.v1.Inference"
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
# A request's prompt in the tokens of the model that it names.
MakePrompt: TypeAlias = "Callable[[LoadedModel, SamplingOptions], FittedPrompt]"

_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.LOOP: pb.FINISH_REASON_LOOP,
    FinishReason.CANCELLED: pb.FINISH_REASON_CANCELLED,
}


@dataclass(frozen=True)
class Shown:
    """A piece of an answer, as both kinds of response carry it."""

    text: str
    logprobs: list[pb.TokenLogprob]


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
        memory = pb.InferenceMemory(
            budget=self._cache.budget,
            models=self._cache.loaded_bytes,
            caches=self._engine.cache_bytes,
        )
        return pb.ListModelsResponse(models=models, next_page_token=page.next_token, memory=memory)

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
        template = await self._template(request)

        def make_prompt(model: LoadedModel, options: SamplingOptions) -> FittedPrompt:
            if not request.drop_oldest_turns:
                return FittedPrompt(chat_prompt(model, messages, template))
            return fitted_prompt(model, messages, template, answer_tokens=options.max_tokens)

        answer = self._answer(request, make_prompt, context, arrived_at)
        async with aclosing(answer) as events:
            async for event in events:
                if isinstance(event, pb.Finish):
                    yield pb.ChatResponse(finish=event)
                elif isinstance(event, Shown):
                    yield pb.ChatResponse(text=event.text, logprobs=event.logprobs)

    async def Generate(  # noqa: N802 - the contract's name
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.GenerateResponse]:
        arrived_at = time.monotonic()

        def make_prompt(model: LoadedModel, _: SamplingOptions) -> FittedPrompt:
            if not request.prompt_tokens:
                return FittedPrompt(raw_prompt(model, request.prompt))
            return FittedPrompt(_known_tokens(model, request))

        answer = self._answer(request, make_prompt, context, arrived_at, loop_guard=False)
        async with aclosing(answer) as events:
            async for event in events:
                if isinstance(event, pb.Finish):
                    yield pb.GenerateResponse(finish=event)
                elif isinstance(event, pb.PromptEcho):
                    yield pb.GenerateResponse(echo=event)
                else:
                    yield pb.GenerateResponse(text=event.text, logprobs=event.logprobs)

    async def Score(  # noqa: N802 - the contract's name
        self, request: pb.ScoreRequest, context: Context
    ) -> pb.ScoreResponse:
        messages = _messages(request.messages)
        check_answered(messages)
        template = await self._template(request)
        servable = await self._catalog.resolve(request.model)
        async with self._cache.use(servable.folder) as model:
            scored = await asyncio.to_thread(_score, model, messages, template)
        return pb.ScoreResponse(
            model=servable.name,
            log_likelihood=scored.log_likelihood,
            answer_tokens=scored.answer_tokens,
            prompt_tokens=scored.prompt_tokens,
        )

    async def _template(self, request: pb.ChatRequest | pb.ScoreRequest) -> PromptTemplate | None:
        """The template that is asked for in place of the model's own."""
        if not request.HasField("prompt_template"):
            return None
        servable = await self._catalog.resolve(request.model)
        return await asyncio.to_thread(template_asked, request.prompt_template, servable.folder)

    async def _answer(
        self,
        request: pb.ChatRequest | pb.GenerateRequest,
        make_prompt: MakePrompt,
        context: Context,
        arrived_at: float,
        *,
        loop_guard: bool = True,
    ) -> AsyncGenerator[Shown | pb.PromptEcho | pb.Finish]:
        """The prompt where it is to be told, pieces of text, then the finish. Times count from `arrived_at`, of time.monotonic;
        `loop_guard` is what is done where the request does not say.
        """
        fields = {"loop_guard": loop_guard} | _sampling_fields(request.sampling)
        options = parse_sampling(fields)
        servable = await self._catalog.resolve(request.model)
        async with self._cache.use(servable.folder) as model:
            # In a thread: rendering and encoding a long conversation takes a while.
            prompt = await asyncio.to_thread(make_prompt, model, options)
            if options.json_schema is not None:
                await asyncio.to_thread(_check_schema, model, options.json_schema)
            if isinstance(request, pb.GenerateRequest) and request.echo:
                yield await asyncio.to_thread(_echo, model, prompt.ids, request, options)
            answer = self._engine.submit(
                model, prompt.ids, options, deadline=_deadline(context, arrived_at)
            )
            async with aclosing(answer) as outputs:
                async for output in outputs:
                    if isinstance(output, Answered):
                        finish = _finish(output, servable.name, arrived_at)
                        finish.dropped_turns = prompt.dropped_turns
                        yield finish
                    else:
                        yield Shown(output.text, _logprobs(output, model))

    def _to_proto(self, model: ServableModel) -> pb.Model:
        message = pb.Model(
            name=model.name,
            is_base=model.origin is None,
            is_loaded=self._cache.is_loaded(model.folder),
            size_bytes=model.size_bytes,
            loaded_bytes=self._cache.bytes_of(model.folder),
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


def _score(model: LoadedModel, messages: list[Message], template: PromptTemplate | None) -> Scored:
    # Imported here: torch may still be loading while the service listens.
    from corral.generation.scoring import score

    return score(model, answered_ids(model, messages, template))


def _known_tokens(model: LoadedModel, request: pb.GenerateRequest) -> list[int]:
    if request.prompt:
        raise InvalidRequestError("prompt_tokens: not together with prompt.")
    known = range(min(model.decoder.vocabulary, model.tokenizer.vocab_size))
    for token in request.prompt_tokens:
        if token not in known:
            raise InvalidRequestError(
                f"prompt_tokens: the model has no token {token}.", f"It has {len(known):,}."
            )
    return list(request.prompt_tokens)


def _check_schema(model: LoadedModel, schema: str) -> None:
    """Make the model's grammars where the event loop does not wait for it, and refuse early."""
    model.grammars.of_schema(schema)


def _echo(
    model: LoadedModel, ids: list[int], request: pb.GenerateRequest, options: SamplingOptions
) -> pb.PromptEcho:
    from corral.generation.generating import check_prompt
    from corral.generation.scoring import prompt_likelihoods

    check_prompt(ids, model.context_length)
    text = request.prompt or model.tokenizer.decode(ids, skip_special=False)
    if options.logprobs is None:
        return pb.PromptEcho(text=text)
    likelihoods = prompt_likelihoods(model, ids, options.logprobs)
    return pb.PromptEcho(text=text, logprobs=_shown(likelihoods, model))


def _sampling_fields(message: pb.SamplingOptions) -> dict[str, Any]:
    """The fields that a client set, by the names that they have on both sides."""
    fields = {field.name: value for field, value in message.ListFields()}
    return fields | {"stop": tuple(message.stop), "logit_bias": dict(message.logit_bias)}


def _deadline(context: Context, arrived_at: float) -> float | None:
    """When the client stops waiting, of time.monotonic, or None."""
    remaining = context.time_remaining()
    return None if remaining is None else arrived_at + remaining


# ---------------------------------------------------------------- responses


def _logprobs(piece: Piece, model: LoadedModel) -> list[pb.TokenLogprob]:
    return _shown(piece.likelihoods, model)


def _shown(likelihoods: Sequence[Likelihood], model: LoadedModel) -> list[pb.TokenLogprob]:
    return [
        pb.TokenLogprob(
            id=likelihood.token,
            token=_text_of(likelihood.token, model),
            logprob=likelihood.logprob,
            top=[
                pb.TokenLogprob(id=token, token=_text_of(token, model), logprob=logprob)
                for token, logprob in likelihood.top
            ],
        )
        for likelihood in likelihoods
    ]


def _text_of(token: int, model: LoadedModel) -> str:
    return model.tokenizer.decode([token], skip_special=False)


def _finish(output: Answered, model: str, arrived_at: float) -> pb.Finish:
    finish = output.finish
    # The first token came at the beginning of the span, so one token less was made within it.
    span = output.last_token_at - output.first_token_at
    made = finish.completion_tokens - 1
    return pb.Finish(
        reason=_REASONS[finish.reason],
        model=model,
        prompt_tokens=finish.prompt_tokens,
        completion_tokens=finish.completion_tokens,
        cached_tokens=finish.cached_tokens,
        time_to_first_token=timedelta(seconds=output.first_token_at - arrived_at),
        total_time=timedelta(seconds=time.monotonic() - arrived_at),
        tokens_per_second=made / span if span > 0 else 0.0,
    )
