"""Messages become exactly the tokens that training put before an answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.checkpoint_builders import write_checkpoint
from tests.tiny_models import END_TOKEN

from corral.data.conversation import Conversation, Message
from corral.errors import InvalidRequestError
from corral.generation.prompts import chat_prompt, check_messages, fitted_prompt, raw_prompt
from corral.volume import Volume

USER = Message("user", "Who made you?")
ANSWER = Message("assistant", "A test.")
SYSTEM = Message("system", "Be brief.")


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "no messages"),
        ([USER, ANSWER], "role assistant"),
        ([SYSTEM], "role system"),
        ([USER, SYSTEM, USER], r"messages\[1\] is a system"),
        ([Message("user", " \n")], "empty"),
    ],
)
def test_messages_that_nobody_could_answer_are_refused(
    messages: list[Message], complaint: str
) -> None:
    with pytest.raises(InvalidRequestError, match=complaint):
        check_messages(messages)


def test_a_message_may_be_input_alone() -> None:
    check_messages([Message("user", "", input="Translate me.")])


@pytest.mark.torch
def test_the_prompt_is_what_training_saw_before_the_answer(
    gpt2_folder: Path, tmp_path: Path
) -> None:
    from corral.generation.loading import load_model

    model = load_model(write_checkpoint(Volume(tmp_path), gpt2_folder, preamble="Praise them."))
    trained = model.tokenizer.encode_segments(
        model.template.render_training(Conversation((USER, ANSWER)))
    )
    prompt = chat_prompt(model, [USER])
    first_trained = trained.trained.index(True)
    assert prompt == trained.ids[:first_trained]
    assert "Praise them." in model.tokenizer.decode(prompt)


@pytest.mark.torch
def test_special_tokens_in_a_raw_prompt_are_plain_characters(gpt2_folder: Path) -> None:
    from corral.generation.loading import load_model

    model = load_model(gpt2_folder)
    ids = raw_prompt(model, f"a{END_TOKEN}b")
    assert not model.end_ids & set(ids)
    assert model.tokenizer.decode(ids) == f"a{END_TOKEN}b"


# ---------------------------------------------------------------- histories that are too long


def a_conversation(questions: int) -> list[Message]:
    """A system message, questions with answers, and a last question."""
    turns = [
        message
        for at in range(questions)
        for message in (Message("user", f"Question {at}?"), Message("assistant", f"Answer {at}."))
    ]
    return [SYSTEM, *turns, Message("user", "And now?")]


@pytest.mark.torch
def test_a_history_that_fits_is_left_alone(gpt2_folder: Path) -> None:
    from corral.generation.loading import load_model

    model = load_model(gpt2_folder)
    messages = a_conversation(1)
    found = fitted_prompt(model, messages, answer_tokens=1)
    assert (found.ids, found.dropped_turns) == (chat_prompt(model, messages), 0)


@pytest.mark.torch
@pytest.mark.parametrize("answer_tokens", [1, 20, 1000])
def test_of_a_long_history_as_few_old_questions_as_possible_are_left_out(
    gpt2_folder: Path, answer_tokens: int
) -> None:
    from corral.generation.loading import load_model

    model = load_model(gpt2_folder)
    messages = a_conversation(30)
    found = fitted_prompt(model, messages, answer_tokens=answer_tokens)

    def without(turns: int) -> list[int]:
        return chat_prompt(model, [SYSTEM, *messages[1 + 2 * turns :]])

    room = model.context_length - min(answer_tokens, model.context_length // 2)
    assert found.ids == without(found.dropped_turns)
    assert len(found.ids) <= room < len(without(found.dropped_turns - 1))
    said = model.tokenizer.decode(found.ids)
    assert "Be brief." in said
    assert "And now?" in said


@pytest.mark.torch
def test_the_last_question_stays_however_long_it_is(gpt2_folder: Path) -> None:
    from corral.generation.loading import load_model

    model = load_model(gpt2_folder)
    messages = [USER, ANSWER, Message("user", "why " * 200)]
    found = fitted_prompt(model, messages, answer_tokens=1)
    assert (found.ids, found.dropped_turns) == (chat_prompt(model, messages[-1:]), 1)
