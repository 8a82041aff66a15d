"""Requests are counted once each, by how they ended."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import CollectorRegistry

from corral.inference.metrics import AnswerFigures
from corral.inference.requests import Ended

STOPPED = Ended(
    outcome="stop",
    submitted_at=10.0,
    first_token_at=10.5,
    ended_at=12.5,
    prompt_tokens=30,
    cached_tokens=20,
    completion_tokens=41,
)


def test_each_request_is_counted_by_its_outcome_with_its_tokens() -> None:
    registry = CollectorRegistry()
    figures = AnswerFigures(registry)
    figures.note(STOPPED)
    figures.note(STOPPED)
    refused = replace(STOPPED, outcome="busy", first_token_at=0.0, completion_tokens=0)
    figures.note(replace(refused, prompt_tokens=0, cached_tokens=0))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("corral_requests_total", outcome="stop") == 2
    assert value("corral_requests_total", outcome="busy") == 1
    assert value("corral_prompt_tokens_total") == 60
    assert value("corral_prompt_tokens_cached_total") == 40
    assert value("corral_completion_tokens_total") == 82
    # The one that was refused had no first token.
    assert value("corral_time_to_first_token_seconds_count") == 2
    assert value("corral_time_to_first_token_seconds_sum") == 1.0
    assert value("corral_answer_tokens_per_second_sum") == 40.0
