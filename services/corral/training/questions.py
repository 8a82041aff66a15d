"""The fixed questions that a model answers at each evaluation, in its own prompt template.

They are held-out rows. Without a split they are the first rows that it trains on: these show as well
whether answers stop and whether they loop, in the form that the user trains for, which questions of
ours would not. Knows nothing of tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from corral.data.conversation import Conversation
from corral.data.examples import held_out_rows
from corral.data.questions import read_questions
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import TextTokenizer
from corral.errors import SpecError
from corral.spec import TrainingSpec

# Rows are passed over whose question leaves no room for an answer, but not for ever.
_TRIES = 16


@dataclass(frozen=True)
class Question:
    """What is asked, as a person reads it, and the prompt's token ids."""

    text: str
    ids: tuple[int, ...]


def evaluation_questions(
    spec: TrainingSpec,
    path: Path,
    *,
    rows: int,
    template: PromptTemplate,
    tokenizer: TextTokenizer,
    context: int,
) -> tuple[Question, ...]:
    """`eval_prompts` questions of a file of so many rows, or fewer where the file has no more.

    Raises SpecError where early stopping watches answers and no question leaves room for one.
    """
    wanted = spec.eval_prompts
    candidates = held_out_rows(rows, spec.eval_split, spec.seed) or range(rows)
    found: list[Question] = []
    with path.open("rb") as stream:
        for row in read_questions(stream, candidates[: wanted * _TRIES]):
            conversation = Conversation(row.asked)
            ids = tuple(tokenizer.encode_prompt(template.render_prompt(conversation)))
            if len(ids) + spec.eval_max_tokens <= context:
                found.append(Question(row.asked[-1].text, ids))
            if len(found) >= wanted:
                break
    if not found and spec.early_stopping in ("stop_rate", "repetition_rate"):
        raise SpecError(
            f"early_stopping: no row leaves room for {spec.eval_max_tokens} tokens of an answer in"
            f" the {context} of this model's context.",
            "Use a smaller eval_max_tokens.",
        )
    return tuple(islice(found, wanted))
