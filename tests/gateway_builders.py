"""A gateway over real sockets: the real trainer service on a store in memory, inference as a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import uvicorn
from prometheus_client import CollectorRegistry
from tests.fakes import MemoryJobStore
from tests.rpc_builders import running
from tests.trainer_builders import write_base

from corral.client import AsyncConnection
from corral.errors import CorralError, ModelNotFoundError
from corral.gateway.app import create_app, surrounded
from corral.rpc.serving import together
from corral.settings import Settings
from corral.trainer.service import TrainerService
from corral.trainer.service import registration as trainer_registration
from corral.v1 import inference_pb2 as pb
from corral.v1 import inference_pb2_grpc
from corral.volume import Volume

MODEL = "tiny"


@dataclass
class ScriptedInference(inference_pb2_grpc.InferenceServicer):
    """Answers every question with the same words. `requests` are those that came, `left` counts calls
    whose client went away.
    """

    words: Sequence[str] = ("Hello", " there")
    reason: pb.FinishReason = pb.FINISH_REASON_STOP
    # Raised in place of an answer, or behind its words.
    refusal: CorralError | None = None
    breaks: CorralError | None = None
    endless: bool = False
    requests: list[Any] = field(default_factory=list)
    seconds_left: list[float] = field(default_factory=list)
    left: int = 0

    async def ListModels(self, request: Any, context: Any) -> pb.ListModelsResponse:  # noqa: N802
        checkpoint = pb.Model(
            name=f"ft:{MODEL}::job-1:ckpt-step-3", base_model=MODEL, job_id="job-1", step=3
        )
        return pb.ListModelsResponse(models=[pb.Model(name=MODEL, is_base=True), checkpoint])

    async def GetModel(self, request: Any, context: Any) -> pb.GetModelResponse:  # noqa: N802
        if request.model != MODEL:
            raise ModelNotFoundError(f"There is no model {request.model!r}.")
        return pb.GetModelResponse(model=pb.Model(name=MODEL, is_base=True))

    async def Chat(self, request: Any, context: Any) -> AsyncIterator[pb.ChatResponse]:  # noqa: N802
        async for kind, value, logprobs in self._answer(request, context):
            yield pb.ChatResponse(**{kind: value}, logprobs=logprobs)

    async def Generate(  # noqa: N802
        self, request: Any, context: Any
    ) -> AsyncIterator[pb.GenerateResponse]:
        if request.echo:
            tokens = [_logprob(word) for word in request.prompt.split(" ")]
            echo = pb.PromptEcho(text=request.prompt, logprobs=tokens)
            yield pb.GenerateResponse(echo=echo)
        async for kind, value, logprobs in self._answer(request, context):
            yield pb.GenerateResponse(**{kind: value}, logprobs=logprobs)

    async def _answer(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        self.seconds_left.append(context.time_remaining())
        if self.refusal is not None:
            raise self.refusal
        has_logprobs = request.sampling.HasField("logprobs")
        try:
            for word in self.words:
                yield "text", word, [_logprob(word)] if has_logprobs else []
            while self.endless:
                yield "text", "more", []
                await asyncio.sleep(0.005)
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise
        if self.breaks is not None:
            raise self.breaks
        written = len(self.words)
        finish = pb.Finish(
            reason=self.reason,
            model=request.model,
            prompt_tokens=7,
            completion_tokens=written,
            cached_tokens=2,
        )
        yield "finish", finish, []


def _logprob(word: str) -> pb.TokenLogprob:
    top = [pb.TokenLogprob(id=1, token=word, logprob=-0.5)]
    return pb.TokenLogprob(id=1, token=word, logprob=-0.5, top=top)


@dataclass(frozen=True)
class Gateway:
    """What a test talks to, and what stands behind it."""

    http: httpx.AsyncClient
    url: str
    store: MemoryJobStore
    inference: ScriptedInference
    base: Path

    async def upload(self, content: bytes, filename: str = "rows.jsonl") -> dict[str, Any]:
        """The file object of an upload that is taken."""
        answer = await self.http.post(
            "/v1/files", files={"file": (filename, content)}, data={"purpose": "fine-tune"}
        )
        assert answer.status_code == 200, answer.text
        uploaded: dict[str, Any] = answer.json()
        return uploaded

    async def create_job(self, file: str, **fields: Any) -> httpx.Response:
        """The answer to a job on the base model."""
        body = {"model": str(self.base), "training_file": file, **fields}
        return await self.http.post("/v1/fine_tuning/jobs", json=body)


@asynccontextmanager
async def gateway(
    folder: Path, inference: ScriptedInference | None = None, **settings: Any
) -> AsyncIterator[Gateway]:
    """A gateway until the block's end; its trainer works below `folder`."""
    scripted = inference or ScriptedInference()
    store = MemoryJobStore()
    volume = Volume(folder / "data")
    service = TrainerService(store, volume, Settings())

    def register_inference(server: grpc.aio.Server) -> Sequence[str]:
        inference_pb2_grpc.add_InferenceServicer_to_server(scripted, server)
        return (pb.DESCRIPTOR.services_by_name["Inference"].full_name,)

    register = together(trainer_registration(service), register_inference)
    registry = CollectorRegistry()
    async with running(register) as address, AsyncConnection(address, address) as client:
        own = Settings(**settings)
        app = surrounded(create_app(client, own, registry), own, registry)
        async with served(app) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
            yield Gateway(http, url, store, scripted, write_base(folder / "base"))


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """The app on a free port of this machine; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    looping = asyncio.create_task(server.main_loop())
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await looping
        server.force_exit = True
        await server.shutdown()


def events_of(text: str) -> list[Any]:
    """The data of server-sent events; the end's mark is a string."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
