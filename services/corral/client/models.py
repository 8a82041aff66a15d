"""Calls about models: list, show, chat, score, and their files.

Knows nothing of how answers are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from corral.client.channels import Channels
from corral.client.model_files import ModelFiles
from corral.client.paging import all_pages
from corral.errors import CorralError
from corral.rpc.channel import translated_errors
from corral.v1 import inference_pb2


@dataclass(frozen=True)
class ModelList:
    """Models, and what the server's memory held when they were listed."""

    models: list[inference_pb2.Model]
    memory: inference_pb2.InferenceMemory


class AnswerStream:
    """An answer as it comes. `close` ends its call, from any thread, and so the iteration."""

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address

    def __iter__(self) -> Iterator[inference_pb2.ChatResponse]:
        return self

    def __next__(self) -> inference_pb2.ChatResponse:
        try:
            with translated_errors(self._address):
                response: inference_pb2.ChatResponse = next(self._call)
        except CorralError:
            if self._call.cancelled():
                raise StopIteration from None
            raise
        return response

    def close(self) -> None:
        self._call.cancel()


class ModelCalls(Channels):
    """What a client can ask of inference."""

    def list_models(self, limit: int | None = None) -> ModelList:
        """Base models and published checkpoints, and the memory in use."""
        memory = inference_pb2.InferenceMemory()

        def page(token: str, size: int) -> tuple[Sequence[inference_pb2.Model], str]:
            request = inference_pb2.ListModelsRequest(page_size=size, page_token=token)
            answer: inference_pb2.ListModelsResponse = self._inference.ListModels(request)
            memory.CopyFrom(answer.memory)
            return answer.models, answer.next_page_token

        with translated_errors(self.inference_address):
            return ModelList(list(all_pages(page, limit)), memory)

    def get_model(self, model: str) -> inference_pb2.Model:
        """A model by its name, or a job's newest checkpoint by the job's id."""
        with translated_errors(self.inference_address):
            request = inference_pb2.GetModelRequest(model=model)
            answer: inference_pb2.GetModelResponse = self._inference.GetModel(request)
        return answer.model

    def chat(
        self,
        model: str,
        messages: Sequence[inference_pb2.Message],
        sampling: inference_pb2.SamplingOptions,
        template: inference_pb2.PromptTemplate | None = None,
        *,
        drop_oldest_turns: bool = False,
    ) -> AnswerStream:
        """Pieces of the answer, then its finish.

        `template` stands in for the one that the model was trained with; `drop_oldest_turns` leaves
        out what does not fit its context.
        """
        return self.ask(
            inference_pb2.ChatRequest(
                model=model,
                messages=messages,
                sampling=sampling,
                prompt_template=template,
                drop_oldest_turns=drop_oldest_turns,
            )
        )

    def ask(self, request: inference_pb2.ChatRequest) -> AnswerStream:
        """Pieces of the answer, then its finish."""
        address = self.inference_address
        return AnswerStream(self._inference.Chat(request), address)

    def score(
        self,
        model: str,
        messages: Sequence[inference_pb2.Message],
        template: inference_pb2.PromptTemplate | None = None,
    ) -> inference_pb2.ScoreResponse:
        """How likely the model finds the last message, which is an answer."""
        request = inference_pb2.ScoreRequest(
            model=model, messages=messages, prompt_template=template
        )
        with translated_errors(self.inference_address):
            answer: inference_pb2.ScoreResponse = self._inference.Score(request)
        return answer

    @cached_property
    def model_files(self) -> ModelFiles:
        """Models in and out as files."""
        address = self.inference_address
        return ModelFiles(self._inference_channel, address)
