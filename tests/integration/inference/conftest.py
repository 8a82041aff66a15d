"""The inference service over a real socket, with tiny models that really answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from tests.checkpoint_builders import publish_job, write_checkpoint
from tests.fakes import MemoryJobStore
from tests.rpc_builders import running
from tests.tiny_models import tiny_gpt2, tiny_llama

from corral.inference.engine import Engine
from corral.inference.loaded import ModelCache
from corral.inference.models import Catalog
from corral.inference.service import InferenceService, registration
from corral.rpc.channel import open_aio_channel
from corral.v1 import inference_pb2_grpc
from corral.volume import Volume

BUDGET = 64 * 1024**2
FINE_TUNED = "ft:tiny-gpt2:pirate:job-1:ckpt-step-10"


@pytest.fixture(scope="session")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    """Two base models, and a checkpoint of one of them. No test writes to it."""
    volume = Volume(tmp_path_factory.mktemp("data"))
    tiny_llama(volume.bases / "tiny-llama")
    base = tiny_gpt2(volume.bases / "tiny-gpt2")
    write_checkpoint(volume, base, job_id="job-1", step=10)
    return volume


@dataclass(frozen=True)
class Served:
    """A running service."""

    address: str
    channel: grpc.aio.Channel
    stub: inference_pb2_grpc.InferenceStub
    loads: list[Path]


@pytest.fixture
async def served(volume: Volume) -> AsyncIterator[Served]:
    from corral.generation.batch import Batch
    from corral.generation.generating import Generation
    from corral.generation.loading import LoadedModel, estimate_bytes, load_model

    loads: list[Path] = []

    def load(folder: Path) -> LoadedModel:
        loads.append(folder)
        return load_model(folder, precision="fp32")

    jobs = MemoryJobStore()
    await publish_job(jobs, job_id="job-1", steps=(10,), model="tiny-gpt2", suffix="pirate")

    def estimate(folder: Path) -> dict[Hashable, int]:
        return {folder: estimate_bytes(folder, precision="fp32")}

    cache = ModelCache(load, estimate, budget=BUDGET)
    engine = Engine(Generation, lambda model: Batch(model.decoder, kept=4), slots=4, waiting=4)
    service = InferenceService(Catalog(jobs, volume), cache, engine)
    async with running(registration(service)) as address:
        channel = open_aio_channel(address)
        yield Served(address, channel, inference_pb2_grpc.InferenceStub(channel), loads)
        await channel.close()
    engine.close()
    cache.close()
