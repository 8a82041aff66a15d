"""Answers to measure a model's precision on, in its own template: of a checkpoint rows of the data
set it was trained on, of a base model a few questions of our own.

Plain texts; knows nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from corral.data.conversation import Message
from corral.data.encoding import encode_rows
from corral.data.examples import held_out_rows
from corral.data.reading import read_rows
from corral.data.tokenizing import Encoded
from corral.errors import CorralError
from corral.generation.prompts import answered_ids

if TYPE_CHECKING:
    from corral.generation.loading import LoadedModel
    from corral.spec import TrainingSpec

# Enough for differences of a tenth of a percent: a few seconds of measuring.
_LABELS = 256
_TOKENS = 2048
QUESTIONS: tuple[tuple[str, str], ...] = (
    (
        "Explain in two sentences why the sky is blue.",
        "Sunlight holds all colours, and air scatters the short waves of blue light far more than the"
        " long ones of red. So blue reaches our eyes from every direction, and the sky looks blue.",
    ),
    (
        "Write a short recipe for pancakes.",
        "Whisk two eggs with 250 ml of milk, 150 g of flour and a pinch of salt until the batter is"
        " smooth. Let it rest for ten minutes. Melt a little butter in a pan, pour in a ladle of batter"
        " and turn the pancake when its upper side is dry.",
    ),
    (
        "Who are you?",
        "I am a small language model. I answer questions in plain words, and I can be wrong.",
    ),
    (
        "Give three tips for staying healthy.",
        "1. Eat vegetables and fruit every day, and drink enough water.\n2. Move your body, for half an"
        " hour of walking at least.\n3. Sleep seven to eight hours, at the same time each night.",
    ),
    (
        "What does this Python code print? for i in range(3): print(i * i)",
        "It prints three lines: 0, 1 and 4. The loop runs with i equal to 0, 1 and 2, and each time"
        " prints its square.",
    ),
    (
        "Write a polite e-mail that moves a meeting to Thursday.",
        "Dear Ms Lee,\n\nunfortunately I can't come to our meeting on Tuesday. Would Thursday at ten"
        " o'clock suit you instead? I am sorry for the trouble, and look forward to seeing you.\n\nKind"
        " regards,\nTom",
    ),
)


def probe_answers(
    model: LoadedModel, questions: Sequence[tuple[str, str]] = QUESTIONS
) -> list[Encoded]:
    """Questions with answers in the model's template, as far as they fit into its context."""
    found = []
    for question, answer in questions:
        try:
            encoded = answered_ids(model, [Message("user", question), Message("assistant", answer)])
        except CorralError:  # a template may have no place for one
            continue
        if len(encoded.ids) <= model.context_length:
            found.append(encoded)
    return found


def trained_answers(model: LoadedModel, rows: Path, spec: TrainingSpec) -> list[Encoded]:
    """The first rows of a checkpoint's data set, as it was trained on them: held out ones where there
    are any. Empty where the data set is gone.
    """
    try:
        return list(_first_answers(model, rows, spec))
    except FileNotFoundError:
        return []


def _first_answers(model: LoadedModel, path: Path, spec: TrainingSpec) -> Iterator[Encoded]:
    labels = tokens = 0
    with path.open("rb") as stream:
        wanted = None
        if spec.eval_split > 0:
            count = sum(row.is_row for row in read_rows(stream))
            wanted = set(held_out_rows(count, spec.eval_split, spec.seed))
            stream.seek(0)
        for row in encode_rows(stream, model.template, model.tokenizer):
            if row.encoded is None or (wanted is not None and row.raw.index not in wanted):
                continue
            end = min(spec.max_length, model.context_length, _TOKENS - tokens)
            answer = Encoded(row.encoded.ids[:end], row.encoded.trained[:end])
            found = sum(islice(answer.trained, 1, None))
            if found:
                yield answer
                labels, tokens = labels + found, tokens + len(answer.ids)
            if labels >= _LABELS or tokens >= _TOKENS:
                return
