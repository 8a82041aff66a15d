"""`python -m corral.inference`: the gRPC chat service, set up from the environment.

The one place that ties the tensor half to the service half. torch is imported by a thread while the
service begins to listen: its health check answers within a second, and a first chat waits for it.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from corral.entry import run_service
from corral.inference import model_files
from corral.inference.engine import Engine
from corral.inference.loaded import ModelCache
from corral.inference.loader import ModelLoader
from corral.inference.metrics import AnswerFigures, inference_collector
from corral.inference.model_files import ModelsService
from corral.inference.models import Catalog
from corral.inference.requests import Answering
from corral.inference.service import InferenceService, registration
from corral.inference.writing import AnswerBatch
from corral.jobs.redis_store import RedisJobStore
from corral.rpc.metrics import CallMetrics, metrics_endpoint
from corral.rpc.serving import join_address, serve, together
from corral.sampling import SamplingOptions
from corral.settings import Settings
from corral.volume import Volume

if TYPE_CHECKING:
    from corral.generation.loading import LoadedModel


async def run(settings: Settings) -> None:
    """Serve until SIGTERM. Raises as corral.rpc.serving.serve does."""
    store = RedisJobStore.connect(settings.redis_url)
    volume = Volume(settings.data.expanduser())
    catalog = Catalog(store, volume)
    registry = CollectorRegistry()
    figures = AnswerFigures(registry)
    models = ModelLoader(settings.inference_precision, volume)
    cache: ModelCache[LoadedModel] = ModelCache(
        models.load,
        models.estimate,
        budget=settings.inference_memory,
        reserved=lambda: engine.reserved_bytes,
        improve=models.improve,
    )
    engine = Engine(
        _begin,
        partial(_open_batch, kept=settings.inference_slots),
        slots=settings.inference_slots,
        waiting=settings.inference_waiting,
        cache_budget=lambda: settings.inference_memory - cache.loaded_bytes,
        on_end=figures.note,
    )
    registry.register(inference_collector(cache, engine))
    # In the thread that loads, and so before the first load.
    warming = cache.prepare(partial(_import_tensors, settings.torch_threads))
    try:
        with metrics_endpoint(registry, settings):
            await serve(
                together(
                    registration(InferenceService(catalog, cache, engine)),
                    model_files.registration(ModelsService(catalog, store, volume)),
                ),
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

    import_module("corral.generation.batch")

    if threads is not None:
        torch.set_num_threads(threads)


def _begin(model: LoadedModel, prompt_ids: list[int], options: SamplingOptions) -> Answering:
    from corral.generation.generating import Generation

    return Generation(model, prompt_ids, options)


def _open_batch(model: LoadedModel, *, kept: int) -> AnswerBatch:
    from corral.generation.batch import Batch

    return Batch(model.decoder, kept=kept)


if __name__ == "__main__":
    sys.exit(run_service("inference", run))
