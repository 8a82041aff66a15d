"""Inference's figures: models in memory and their bytes, answers in the making and waiting ones.

Knows nothing of calls, which corral.rpc.metrics measures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from corral.inference.engine import Engine
from corral.inference.loaded import ModelCache
from corral.rpc.metrics import LoopCollector


def inference_collector(cache: ModelCache[Any], engine: Engine) -> LoopCollector:
    """A collector for the running event loop's registry, in which both keep their books."""

    async def read() -> Sequence[GaugeMetricFamily]:
        return _families(cache.loaded, cache.loaded_bytes, engine.writing, engine.waiting)

    return LoopCollector(asyncio.get_running_loop(), _families(), read)


def _families(
    models: int | None = None,
    size_bytes: int | None = None,
    writing: int | None = None,
    waiting: int | None = None,
) -> Sequence[GaugeMetricFamily]:
    return [
        GaugeMetricFamily(name, documentation, value)
        for name, documentation, value in (
            ("corral_models_loaded", "Models in memory.", models),
            ("corral_models_loaded_bytes", "Bytes of the models in memory.", size_bytes),
            ("corral_answers_writing", "Answers in the making.", writing),
            ("corral_answers_waiting", "Requests that wait for a slot.", waiting),
        )
    ]
