"""Checkpoints that appear while others are being chatted with, and what they take of the memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoint_builders import publish_job, write_checkpoint, write_lora_checkpoint
from tests.fakes import MemoryJobStore
from tests.rpc_builders import running
from tests.tiny_models import tiny_llama

from corral.data.conversation import Message
from corral.errors import PromptTooLongError
from corral.inference.engine import Engine
from corral.inference.loaded import ModelCache
from corral.inference.loader import ModelLoader
from corral.inference.models import Catalog
from corral.inference.service import InferenceService, registration
from corral.jobs.records import PublishedCheckpoint
from corral.rpc.channel import open_aio_channel, translated_errors
from corral.sampling import SamplingOptions
from corral.v1 import inference_pb2 as pb
from corral.v1 import inference_pb2_grpc
from corral.volume import Volume

pytestmark = pytest.mark.torch

BUDGET = 64 * 1024**2
LENGTH = 40
# Long enough for a piece of the prompt to be remembered exactly.
QUESTION = pb.Message(role=pb.ROLE_USER, content="a " * 50)


@dataclass(frozen=True)
class Served:
    """A running service; its job-1 trains on the base model `tiny`, and has published step 10."""

    volume: Volume
    jobs: MemoryJobStore
    stub: inference_pb2_grpc.InferenceStub

    async def publish(self, step: int) -> Path:
        """Another checkpoint, of other weights, as a worker would."""
        other = tiny_llama(self.volume.bases / f"other-{step}", seed=step)
        folder = write_checkpoint(self.volume, other, job_id="job-1", step=step)
        job = await self.jobs.get("job-1")
        checkpoint = PublishedCheckpoint(
            step=step,
            attempt=job.attempt,
            folder=folder.name,
            size_bytes=1,
            loss=1.0,
            created_at=1_700_000_000.0,
        )
        await self.jobs.publish("job-1", job.attempt, checkpoint)
        return folder

    def chat(self, model: str, *turns: pb.Message, **fields: Any) -> Any:
        sampling = pb.SamplingOptions(temperature=0, max_tokens=LENGTH, loop_guard=False)
        messages = turns or (QUESTION,)
        return self.stub.Chat(
            pb.ChatRequest(model=model, messages=messages, sampling=sampling, **fields)
        )

    async def answer(self, model: str, *turns: pb.Message, **fields: Any) -> tuple[str, pb.Finish]:
        return await rest_of(self.chat(model, *turns, **fields))


async def rest_of(call: Any) -> tuple[str, pb.Finish]:
    with translated_errors():
        responses = [response async for response in call]
    return "".join(response.text for response in responses), responses[-1].finish


def answer_of(folder: Path) -> str:
    """What the weights in a folder say to the question, alone."""
    from corral.generation.answers import Piece
    from corral.generation.generating import generate
    from corral.generation.loading import load_model
    from corral.generation.prompts import chat_prompt

    model = load_model(folder, precision="fp32")
    options = SamplingOptions(temperature=0, max_tokens=LENGTH, loop_guard=False)
    outputs = generate(model, chat_prompt(model, [Message("user", QUESTION.content)]), options)
    return "".join(output.text for output in outputs if isinstance(output, Piece))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    from corral.generation.batch import Batch
    from corral.generation.generating import Generation
    from corral.generation.loading import LoadedModel

    volume, jobs = Volume(tmp_path / "data"), MemoryJobStore()
    base = tiny_llama(volume.bases / "tiny")
    write_checkpoint(volume, base, job_id="job-1", step=10, template="chatml")
    await publish_job(jobs, job_id="job-1", steps=(10,), model="tiny")
    loader = ModelLoader("fp32", volume)
    cache: ModelCache[LoadedModel] = ModelCache(loader.load, loader.estimate, budget=BUDGET)
    engine = Engine(Generation, lambda model: Batch(model.decoder, kept=4), slots=4, waiting=4)
    service = InferenceService(Catalog(jobs, volume), cache, engine)
    async with (
        running(registration(service)) as address,
        open_aio_channel(address) as channel,
    ):
        yield Served(volume, jobs, inference_pb2_grpc.InferenceStub(channel))
    engine.close()
    cache.close()


async def test_a_job_answers_with_what_it_published_last(served: Served) -> None:
    _, finish = await served.answer("job-1")
    assert finish.model.endswith("ckpt-step-10")
    folder = await served.publish(20)
    text, finish = await served.answer("job-1")
    assert finish.model.endswith("ckpt-step-20")
    assert text == answer_of(folder)


async def test_an_answer_ends_on_the_weights_that_it_began_with(served: Served) -> None:
    old = served.volume.checkpoints("job-1") / "step-00000010-a1"
    call = served.chat("job-1")
    begun = (await call.read()).text
    newer = await served.publish(20)
    text, _ = await served.answer("job-1")
    rest, old_finish = await rest_of(call)
    assert begun + rest == answer_of(old)
    assert old_finish.model.endswith("ckpt-step-10")
    assert text == answer_of(newer) != begun + rest


async def test_two_weights_of_one_name_never_mix_what_they_remember(served: Served) -> None:
    text, _ = await served.answer("job-1")
    again, finish = await served.answer("job-1")
    assert again == text
    assert finish.cached_tokens > 0
    folder = await served.publish(20)
    newer, finish = await served.answer("job-1")
    assert (newer, finish.cached_tokens) == (answer_of(folder), 0)
    old, _ = await served.answer("job-1@10")
    assert old == text


async def test_the_memory_in_use_is_in_the_list(served: Served) -> None:
    before = await served.stub.ListModels(pb.ListModelsRequest())
    assert (before.memory.budget, before.memory.models) == (BUDGET, 0)
    await served.answer("job-1")
    after = await served.stub.ListModels(pb.ListModelsRequest())
    loaded = {model.name: model.loaded_bytes for model in after.models if model.is_loaded}
    assert list(loaded) == ["ft:tiny::job-1:ckpt-step-10"]
    assert sum(loaded.values()) == after.memory.models > 0


async def test_adapters_of_one_base_take_its_memory_once(served: Served) -> None:
    base = served.volume.bases / "tiny"
    steps = (1, 2, 3)
    for step in steps:
        write_lora_checkpoint(served.volume, base, job_id="job-2", step=step, seed=step)
    await publish_job(served.jobs, job_id="job-2", steps=steps, model="tiny")
    await served.answer("tiny")
    alone = (await served.stub.ListModels(pb.ListModelsRequest())).memory.models
    texts = {(await served.answer(f"job-2@{step}"))[0] for step in steps}
    assert len(texts) == 3
    listed = await served.stub.ListModels(pb.ListModelsRequest())
    loaded = {model.name: model.loaded_bytes for model in listed.models if model.job_id == "job-2"}
    assert all(0 < size < alone / 2 for size in loaded.values())
    assert listed.memory.models == alone + sum(loaded.values())


# ---------------------------------------------------------------- long histories

SHORT = pb.Message(role=pb.ROLE_USER, content="Who?")
ANSWER = pb.Message(role=pb.ROLE_ASSISTANT, content="I.")
LONG = (*(SHORT, ANSWER) * 30, SHORT)


async def test_a_history_that_is_too_long_is_an_error(served: Served) -> None:
    with pytest.raises(PromptTooLongError, match="context holds 128"):
        await served.answer("job-1", *LONG)


async def test_the_oldest_questions_are_left_out_when_asked_and_that_is_told(
    served: Served,
) -> None:
    _, finish = await served.answer("job-1", *LONG, drop_oldest_turns=True)
    assert 0 < finish.dropped_turns < 30
    assert finish.prompt_tokens < 128
    _, finish = await served.answer("job-1", SHORT, drop_oldest_turns=True)
    assert finish.dropped_turns == 0
