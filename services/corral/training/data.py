"""The run's examples: tokenized once, by the main rank, and mapped by all.

Knows nothing of steps, batches or models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from corral.data.examples import held_out_rows
from corral.data.prepared import Examples, prepared_folder
from corral.data.preparing import PreparingProgress, prepare_examples
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import FittedTokenizer
from corral.errors import CorralError
from corral.run import Preparing, RunEvent, TrainingRun, now
from corral.training.parallel import Ranks
from corral.volume import Volume

# What the main rank tells those that wait for it.
_WORKING, _DONE, _FAILED = 0.0, 1.0, 2.0


def load_examples(
    run: TrainingRun,
    volume: Volume,
    ranks: Ranks,
    template: PromptTemplate,
    tokenizer: FittedTokenizer,
    emit: Callable[[RunEvent], None],
    tell_every: float = 2.0,
) -> tuple[Examples, Examples]:
    """Examples to train on and examples held out, each in the file's order. A collective.

    Where it takes long, the main rank emits Preparing each `tell_every` seconds.

    Raises DatasetError for a row that can't be trained on, StorageFullError; on ranks that only
    waited CorralError.
    """
    length = run.spec.max_length
    dataset = volume.dataset(run.dataset_id)
    folder = prepared_folder(dataset, template.sha256, tokenizer.sha256, length)
    if ranks.is_main:
        rows = volume.dataset_rows(run.dataset_id)
        work = prepare_examples(rows, folder, template, tokenizer, length)
        _prepare(work, ranks, emit, tell_every)
    else:
        _wait(ranks)
    # The main rank has looked at every byte.
    examples = Examples.open(folder, check=False)
    if examples is None:
        raise CorralError(f"The tokenized examples in {folder} are gone.", "Start the job again.")
    held_out = held_out_rows(len(examples), run.spec.eval_split, run.spec.seed)
    held = set(held_out)
    train = [row for row in range(len(examples)) if row not in held] if held else None
    return examples if train is None else examples.select(train), examples.select(held_out)


def _prepare(
    work: Iterator[PreparingProgress],
    ranks: Ranks,
    emit: Callable[[RunEvent], None],
    tell_every: float,
) -> None:
    """Do the work, and show that it goes on: to people by events, to the other ranks by collectives,
    since a process group ends those that wait in one for too long.
    """
    began = told = time.monotonic()
    outcome = _FAILED
    try:
        for progress in work:
            at = time.monotonic()
            if at - told >= tell_every:
                told = at
                emit(_preparing(progress, at - began))
                ranks.total(_WORKING)
        outcome = _DONE
    finally:
        ranks.total(outcome)


def _wait(ranks: Ranks) -> None:
    while (said := ranks.total(0.0)[0]) == _WORKING:
        pass
    if said == _FAILED:
        raise CorralError("The main rank could not prepare the data set; it says why.")


def _preparing(progress: PreparingProgress, seconds: float) -> Preparing:
    share = progress.share or 1.0
    return Preparing(
        time=now(),
        rows=progress.rows,
        total_rows=round(progress.rows / share),
        time_left=seconds / share - seconds,
    )
