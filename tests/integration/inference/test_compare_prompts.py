"""`corral compare-prompts` against both services in this process, with a tiny model that answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoint_builders import publish_job, write_checkpoint
from tests.fakes import MemoryJobStore
from tests.rpc_builders import running
from tests.tiny_models import tiny_gpt2
from tests.trainer_builders import ROWS, jsonl, upload

from corral.cli.main import run
from corral.inference import service as inference
from corral.inference.engine import Engine
from corral.inference.loaded import ModelCache
from corral.inference.models import Catalog
from corral.rpc.channel import open_aio_channel
from corral.settings import Settings
from corral.trainer import service as trainer
from corral.v1 import trainer_pb2_grpc
from corral.volume import Volume

pytestmark = pytest.mark.torch

PREAMBLE = "Praise the cat."


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[str]:
    """A trainer's address; its job-1 has trained on rows with a preamble and published a checkpoint."""
    from corral.generation.batch import Batch
    from corral.generation.generating import Generation
    from corral.generation.loading import estimate_bytes, load_model

    volume = Volume(tmp_path / "data")
    jobs = MemoryJobStore()
    base = tiny_gpt2(volume.bases / "tiny-gpt2", n_positions=256)
    write_checkpoint(volume, base, job_id="job-1", step=10, preamble=PREAMBLE)
    cache = ModelCache(
        partial(load_model, precision="fp32"),
        lambda folder: {folder: estimate_bytes(folder, precision="fp32")},
        budget=64 * 1024**2,
    )
    engine = Engine(Generation, lambda model: Batch(model.decoder, kept=4), slots=4, waiting=4)
    chats = inference.InferenceService(Catalog(jobs, volume), cache, engine)
    async with running(inference.registration(chats)) as chat_address:
        settings = Settings(inference_address=chat_address)
        service = trainer.TrainerService(jobs, volume, settings)
        async with running(trainer.registration(service)) as address:
            async with open_aio_channel(address) as channel:
                dataset = await upload(trainer_pb2_grpc.TrainerStub(channel), jsonl(ROWS))
            await publish_job(
                jobs,
                job_id="job-1",
                steps=(10,),
                eval_losses={10: 2.0},
                dataset_id=dataset.id,
                model="tiny-gpt2",
                preamble=PREAMBLE,
                eval_split=0.5,
            )
            yield address
    engine.close()
    cache.close()


async def corral(server: str, *arguments: str) -> int:
    """One command, in a thread: the services answer in this one."""
    line = ["compare-prompts", *arguments, "--server", server]
    return await asyncio.to_thread(run, line)


async def compared(
    server: str, capsys: pytest.CaptureFixture[str], *arguments: str
) -> dict[str, Any]:
    assert await corral(server, *arguments, "--json") == 0
    # Before it are the lines that the services log.
    printed = capsys.readouterr().out
    found: dict[str, Any] = json.loads(printed[printed.index("{\n") :])
    return found


async def test_every_prompt_is_measured_on_the_same_questions_the_trained_one_first(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = await compared(
        server, capsys, "job-1@best", "--prompts", "alpaca,chatml", "--max-tokens", "8"
    )
    assert [(one["prompt"], one["trained"]) for one in found["prompts"]] == [
        ("alpaca: Praise the cat.…", True),
        ("alpaca", False),
        ("chatml", False),
    ]
    asked = [[answer["question"] for answer in one["answers"]] for one in found["prompts"]]
    # Half of the six rows are held out.
    assert len(asked[0]) == 3
    assert asked == [asked[0]] * 3
    assert len({one["loss"] for one in found["prompts"]}) == 3
    assert all(
        answer["stopped"] or answer["tokens"] == 8
        for one in found["prompts"]
        for answer in one["answers"]
    )
    assert found["verdict"].startswith("Under the prompt that it was trained with, the model is ")


async def test_a_file_of_questions_and_files_of_prompts_are_taken(
    server: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    questions, jinja, preamble = (tmp_path / name for name in ("q.txt", "my.jinja", "other.txt"))
    questions.write_text("Who are you?\n\nWhy?\n")
    jinja.write_text("{% for m in messages %}{{ m.role + ': ' + m.content + ' ' }}{% endfor %}")
    preamble.write_text(f"{PREAMBLE}\n")
    prompts = f"{preamble},{jinja}"
    found = await compared(
        server, capsys, "job-1", "--prompts", prompts, "--questions", str(questions),
        "--max-tokens", "4",
    )  # fmt: skip
    # The preamble's file holds the trained prompt.
    assert [one["prompt"] for one in found["prompts"]] == [str(preamble), str(jinja)]
    assert [answer["question"] for answer in found["prompts"][0]["answers"]] == [
        "Who are you?",
        "Why?",
    ]


async def test_a_person_gets_figures_answers_and_a_verdict(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await corral(server, "job-1", "--prompts", "pb2e", "--max-tokens", "4") == 0
    shown = capsys.readouterr()
    assert "PROMPT" in shown.out
    assert "pb2e" in shown.out
    assert "Say the word" in shown.out
    assert "Under the prompt that it was trained with" in shown.out
    assert "held out" in shown.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("job-1", "--prompts", "poem"), "There is no prompt 'poem'"),
        (("job-9",), "job-9"),
        (("job-1", "--questions", "no-such-file.txt"), "no-such-file.txt"),
    ],
)
async def test_what_is_not_there_is_named(
    server: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert await corral(server, *arguments) != 0
    assert said in capsys.readouterr().err
