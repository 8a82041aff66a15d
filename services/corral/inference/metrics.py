"""Inference's figures: models in memory and their bytes, answers in the making and waiting, and what
became of each request.

Knows nothing of calls, which corral.rpc.metrics measures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily

from corral.inference.engine import Engine
from corral.inference.loaded import ModelCache
from corral.inference.requests import Ended
from corral.rpc.metrics import LoopCollector

_FIRST_TOKEN_SECONDS = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 30.0)
_TOKENS_PER_SECOND = (1, 2, 5, 10, 20, 40, 80, 160, 320)


class AnswerFigures:
    """Counts requests as they end."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "corral_requests",
            "Requests by how they ended: a finish reason, or an error's code.",
            ["outcome"],
            registry=registry,
        )
        self._prompt = Counter("corral_prompt_tokens", "Tokens of prompts.", registry=registry)
        self._cached = Counter(
            "corral_prompt_tokens_cached",
            "Tokens of prompts whose keys and values were in memory.",
            registry=registry,
        )
        self._completion = Counter(
            "corral_completion_tokens", "Tokens of answers.", registry=registry
        )
        self._first_token = Histogram(
            "corral_time_to_first_token_seconds",
            "From a request's arrival in the queue to its first token.",
            registry=registry,
            buckets=_FIRST_TOKEN_SECONDS,
        )
        self._rate = Histogram(
            "corral_answer_tokens_per_second",
            "Tokens of an answer over the time from its first to its end.",
            registry=registry,
            buckets=_TOKENS_PER_SECOND,
        )

    def note(self, ended: Ended) -> None:
        """Count one request, which has ended."""
        self._requests.labels(ended.outcome).inc()
        self._prompt.inc(ended.prompt_tokens)
        self._cached.inc(ended.cached_tokens)
        self._completion.inc(ended.completion_tokens)
        if not ended.first_token_at:
            return
        self._first_token.observe(ended.first_token_at - ended.submitted_at)
        span = ended.ended_at - ended.first_token_at
        if ended.completion_tokens > 1 and span > 0:
            self._rate.observe((ended.completion_tokens - 1) / span)


def inference_collector(cache: ModelCache[Any], engine: Engine) -> LoopCollector:
    """A collector for the running event loop's registry, in which both keep their books."""

    async def read() -> Sequence[GaugeMetricFamily]:
        return _families(
            cache.loaded, cache.loaded_bytes, engine.cache_bytes, engine.writing, engine.waiting
        )

    return LoopCollector(asyncio.get_running_loop(), _families(), read)


def _families(
    models: int | None = None,
    size_bytes: int | None = None,
    cache_bytes: int | None = None,
    writing: int | None = None,
    waiting: int | None = None,
) -> Sequence[GaugeMetricFamily]:
    return [
        GaugeMetricFamily(name, documentation, value)
        for name, documentation, value in (
            ("corral_models_loaded", "Models in memory.", models),
            ("corral_models_loaded_bytes", "Bytes of the models in memory.", size_bytes),
            ("corral_answer_cache_bytes", "Bytes of keys and values.", cache_bytes),
            ("corral_answers_writing", "Answers in the making.", writing),
            ("corral_answers_waiting", "Requests that wait for a slot.", waiting),
        )
    ]
