"""What values are called on the pages."""

from __future__ import annotations

import pytest

from corral.gateway.console import words
from corral.v1 import inference_pb2, trainer_pb2


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("ft:gpt2:dusty:job-1", "dusty"),
        ("ft:gpt2:dusty:job-1:ckpt-step-1200", "dusty · step 1,200"),
        ("ft:Qwen/Qwen3-0.6B::job-1:ckpt-step-5", "Qwen3-0.6B job-1 · step 5"),
        ("Qwen/Qwen3-0.6B", "Qwen3-0.6B"),
    ],
)
def test_a_model_is_called_by_what_a_person_knows(name: str, title: str) -> None:
    assert words.model_title(name) == title


def test_an_answer_that_the_loop_guard_ended_says_so() -> None:
    finish = inference_pb2.Finish(
        reason=inference_pb2.FINISH_REASON_LOOP, completion_tokens=12, dropped_turns=1
    )
    said = words.finish(finish)
    assert said.startswith("12 tokens")
    assert "the loop guard ended it" in said
    assert "1 oldest question left out" in said


def test_every_state_of_a_job_has_a_name() -> None:
    for number in trainer_pb2.JobState.values():
        if number != trainer_pb2.JOB_STATE_UNSPECIFIED:
            assert words.state(number)[0] != "unknown"


def test_models_are_named_in_an_address_whatever_they_are_called() -> None:
    assert words.chat_path("a b", "c&d") == "/chat?model=a+b&model=c%26d"
