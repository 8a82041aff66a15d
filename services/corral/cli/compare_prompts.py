"""`corral compare-prompts`: the same questions under the prompt that was trained and under others.

Chooses what is asked; corral.cli.prompt_asking asks it, the server renders and answers. Knows nothing
of tokens or weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from io import BufferedReader, RawIOBase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral.cli import output
from corral.cli.flags import JsonFlag, ServerFlag, connect
from corral.errors import DatasetNotFoundError, InvalidRequestError
from corral.names import ModelName, split_choice
from corral.spec import TrainingSpec

if TYPE_CHECKING:
    from corral.cli.prompt_asking import Turns
    from corral.client.connection import Connection
    from corral.data.questions import AnsweredQuestion
    from corral.v1 import trainer_pb2

DEFAULT_PROMPTS = "alpaca,pb2e,chatml"
DEFAULT_ROWS = 12
DEFAULT_MAX_TOKENS = TrainingSpec.model_fields["eval_max_tokens"].default


def compare_prompts(
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB", help="A job's id, JOB@best, or the name of one of its checkpoints."
        ),
    ],
    prompts: Annotated[
        str,
        typer.Option(
            metavar="NAME,…",
            help="Templates (alpaca, chatml, model), named preambles (pb2e), files that end in"
            " .jinja or .txt. The trained prompt is always among them.",
        ),
    ] = DEFAULT_PROMPTS,
    questions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What to ask, a line each. Else the job's rows."),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, help="Rows of the job's data, held-out ones first.")
    ] = DEFAULT_ROWS,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Longest answer, in tokens.")
    ] = DEFAULT_MAX_TOKENS,
    server: ServerFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask a checkpoint the same questions under its own training prompt and under others.

    Prints, for each prompt, the loss on the answers of the job's rows, how many greedy answers stop
    by themselves, how much they repeat themselves, and the answers side by side.
    """
    from corral.cli.comparison_output import show
    from corral.cli.prompt_asking import Asker
    from corral.cli.prompt_comparison import prompts_to_compare, verdict

    with connect(server) as client:
        found = client.get_job(_job_id(job))
        compared = prompts_to_compare(_trained(found.spec), prompts)
        answered = _rows(client, found, rows)
        asked = _questions(questions) if questions else [row.asked for row in answered]
        if not asked:
            raise InvalidRequestError(
                f"The data set of {found.id} is gone or has no questions.", "Give --questions FILE."
            )
        measured = Asker(client, job, max_tokens).measure(compared, answered, asked)
    sentence = verdict(measured)
    if as_json:
        plain = [one.to_plain() for one in measured]
        output.result_json({"model": job, "prompts": plain, "verdict": sentence})
    else:
        show(measured, sentence)


# ---------------------------------------------------------------- what is asked


def _job_id(name: str) -> str:
    plain, _ = split_choice(name)
    parsed = ModelName.parse(plain)
    return parsed.job if parsed else plain


def _trained(spec: trainer_pb2.TrainingSpec) -> dict[str, str]:
    names = ("template", "preamble", "template_source")
    return {name: getattr(spec, name) for name in names if spec.HasField(name)}


def _rows(client: Connection, job: trainer_pb2.TrainingJob, limit: int) -> list[AnsweredQuestion]:
    """Rows of the job's data set, held-out ones where there are any; none where it is gone."""
    from corral.data.examples import held_out_rows
    from corral.data.questions import read_questions

    try:
        count = client.get_dataset(job.dataset_id).report.rows
    except DatasetNotFoundError as error:
        output.say(f"{error.message} There will be no loss.")
        return []
    held_out = held_out_rows(count, job.spec.eval_split, job.spec.seed)
    which = "held out" if held_out else "trained on"
    output.say(f"Rows of the job's data set that were {which}: {limit} at most.")
    with closing(client.download_dataset(job.dataset_id)) as chunks:
        stream = BufferedReader(_Chunks(chunks))
        wanted = held_out[:limit] if held_out else range(min(limit, count))
        return list(islice(read_questions(stream, wanted), limit))


def _questions(path: Path) -> list[Turns]:
    from corral.data.conversation import Message

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{path} can't be read as UTF-8 text: {error}.") from None
    return [(Message("user", line),) for line in lines if line.strip()]


class _Chunks(RawIOBase):
    """A download as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._chunks, b"")
        piece, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)
