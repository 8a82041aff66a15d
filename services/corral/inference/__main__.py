"""`python -m corral.inference`: the gRPC chat service, set up from the environment.

The one place that ties the tensor half to the service half. torch is imported by a thread while the
service begins to listen: its health check answers within a second, and a first chat waits for it.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from corral.entry import run_service
from corral.inference.engine import Engine, Steps
from corral.inference.loaded import ModelCache
from corral.inference.metrics import inference_collector
from corral.inference.models import Catalog
from corral.inference.service import InferenceService, registration
from corral.jobs.redis_store import RedisJobStore
from corral.rpc.metrics import CallMetrics, metrics_endpoint
from corral.rpc.serving import join_address, serve
from corral.sampling import SamplingOptions
from corral.settings import Settings
from corral.volume import Volume

if TYPE_CHECKING:
    from corral.generation.loading import LoadedModel


async def run(settings: Settings) -> None:
    """Serve until SIGTERM. Raises as corral.rpc.serving.serve does."""
    store = RedisJobStore.connect(settings.redis_url)
    catalog = Catalog(store, Volume(settings.data.expanduser()))
    cache = ModelCache(
        partial(_load, precision=settings.inference_precision),
        partial(_estimate, precision=settings.inference_precision),
        budget=settings.inference_memory,
    )
    engine = Engine(_begin, slots=settings.inference_slots, waiting=settings.inference_waiting)
    registry = CollectorRegistry()
    registry.register(inference_collector(cache, engine))
    # In the thread that loads: transformers is not safe to import in two at once.
    warming = cache.prepare(partial(_import_tensors, settings.torch_threads))
    try:
        with metrics_endpoint(registry, settings):
            await serve(
                registration(InferenceService(catalog, cache, engine)),
                address=join_address(settings.host, settings.inference_port),
                settings=settings,
                interceptors=[CallMetrics(registry)],
            )
    finally:
        engine.close()
        cache.close()
        await store.close()
        await warming


def _import_tensors(threads: int | None) -> None:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    import_module("corral.generation.generating")

    if threads is not None:
        torch.set_num_threads(threads)


def _load(folder: Path, *, precision: str) -> LoadedModel:
    from corral.generation.loading import load_model

    return load_model(folder, precision=precision)


def _estimate(folder: Path, *, precision: str) -> int:
    from corral.generation.loading import estimate_bytes

    return estimate_bytes(folder, precision=precision)


def _begin(model: LoadedModel, prompt_ids: list[int], options: SamplingOptions) -> Steps:
    from corral.generation.generating import Generation

    return Generation(model, prompt_ids, options)


if __name__ == "__main__":
    sys.exit(run_service("inference", run))
