"""A trainer service over a real socket, a base model without weights, rows to upload."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.rpc_builders import running
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from corral.jobs.store import JobStore
from corral.rpc.channel import open_aio_channel
from corral.settings import Settings
from corral.trainer.service import TrainerService, registration
from corral.v1 import trainer_pb2 as pb
from corral.v1 import trainer_pb2_grpc
from corral.volume import Volume

CONTEXT = 512
END_TOKEN = "<|endoftext|>"

ROWS = [
    {"instruction": f"Say the word number {n}.", "output": f"It is the word {n}."} for n in range(6)
]


def write_base(folder: Path, **config: Any) -> Path:
    """A GPT-2 folder with a byte-level tokenizer and no weights: all that a trainer looks at."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["to be or not to be"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END_TOKEN}))
    given = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_positions": CONTEXT,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "vocab_size": 300,
    }
    (folder / "config.json").write_text(json.dumps(given | config))
    return folder


def jsonl(rows: Iterable[Any]) -> bytes:
    """Rows as a file."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@asynccontextmanager
async def trainer(
    store: JobStore, volume: Volume, **settings: Any
) -> AsyncIterator[trainer_pb2_grpc.TrainerStub]:
    """A client of a served trainer."""
    service = TrainerService(store, volume, Settings(**settings))
    await service.tidy()
    async with (
        running(registration(service)) as address,
        open_aio_channel(address) as channel,
    ):
        yield trainer_pb2_grpc.TrainerStub(channel)


async def upload(
    stub: Any, data: bytes, filename: str = "rows.jsonl", chunk: int = 64 * 1024
) -> pb.Dataset:
    """Upload a file in chunks."""

    async def requests() -> AsyncIterator[pb.UploadDatasetRequest]:
        pieces = [data[at : at + chunk] for at in range(0, len(data), chunk)] or [b""]
        for number, piece in enumerate(pieces):
            yield pb.UploadDatasetRequest(filename="" if number else filename, chunk=piece)

    return (await stub.UploadDataset(requests())).dataset
