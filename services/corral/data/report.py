"""What checking a data set found, as a value that travels as JSON.

Knows nothing of how it was found.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from corral.data.problems import Problem
from corral.errors import DatasetError

MAX_PROBLEMS = 100
_PROBLEMS_IN_SENTENCE = 3
# Codes of problems that only show with a template and a tokenizer.
_NEEDS_MODEL = ("template", "cut_away")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenStats(_Frozen):
    """Tokens of a row, prompt and answer together, before anything is cut."""

    mean: float
    p50: int
    p90: int
    max: int
    total: int
    # Labels: answers and their end tokens, after cutting.
    trained: int
    # Rows longer than the maximum, which are cut to it.
    too_long: int
    max_length: int
    # How many rows there are of each length, lengths ascending: what a plan is made from.
    histogram: tuple[tuple[int, int], ...] = ()


class ExamplePiece(_Frozen):
    """Neighbouring tokens of one kind, as text, special tokens included."""

    text: str
    trained: bool


class RenderedExample(_Frozen):
    """A row as the model will see it."""

    row: int
    line: int
    pieces: tuple[ExamplePiece, ...]


class Report(_Frozen):
    """All that checking found."""

    rows: int
    # Rows without a problem of severity error.
    usable_rows: int
    # "alpaca", "prompt_completion" or "messages"; "mixed" when rows differ; empty when none is known.
    format: str
    # The first errors, and where there is room the first warnings, in file order.
    problems: tuple[Problem, ...]
    problem_count: int
    error_count: int
    # Set when the check was made for training.
    tokens: TokenStats | None = None
    examples: tuple[RenderedExample, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether a job would take the file."""
        return self.error_count == 0

    def raise_if_unusable(self) -> None:
        """Raises DatasetError naming the first problems, unless the report is ok."""
        if self.ok:
            return
        errors = [problem for problem in self.problems if problem.severity == "error"]
        shown = "; ".join(str(problem) for problem in errors[:_PROBLEMS_IN_SENTENCE])
        further = self.error_count - min(len(errors), _PROBLEMS_IN_SENTENCE)
        more = f" And {further:,} more." if further else ""
        raise DatasetError(
            f"The data set can't be trained on: {shown}{more}",
            f"`corral data check FILE{self._check_flags(errors)}` lists what is wrong.",
        )

    def _check_flags(self, errors: list[Problem]) -> str:
        """What `corral data check` needs to find the same: the structure alone may be fine."""
        if not any(problem.code in _NEEDS_MODEL for problem in errors):
            return ""
        length = self.tokens.max_length if self.tokens else "N"
        return f" --model MODEL --max-length {length} --template TEMPLATE"
