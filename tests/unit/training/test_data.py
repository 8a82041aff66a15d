"""One rank tokenizes; the others wait for it, and learn how it ended."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from tests.data_builders import gpt2_like
from tests.runs import write_rows

from corral.data.prepared import Examples
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import fit_tokenizer
from corral.errors import CorralError, DatasetError
from corral.run import Preparing, RunEvent, TrainingRun
from corral.spec import TrainingSpec
from corral.training.data import load_examples
from corral.training.parallel import Ranks
from corral.volume import Volume

ALPACA = PromptTemplate.alpaca("P.")
ROWS = [{"instruction": f"Question {n}?", "output": f"Answer {n}."} for n in range(1000)]
SECONDS = 60


@dataclass
class Meeting:
    """Where ranks that are threads add up their values."""

    barrier: Barrier = field(default_factory=lambda: Barrier(2, timeout=SECONDS))
    lock: Lock = field(default_factory=Lock)
    sums: list[float] = field(default_factory=list)

    def total(self, values: tuple[float, ...]) -> list[float]:
        self.barrier.wait()
        self.sums = [0.0] * len(values)
        self.barrier.wait()
        with self.lock:
            self.sums = [one + other for one, other in zip(self.sums, values, strict=True)]
        self.barrier.wait()
        return self.sums


@dataclass(frozen=True)
class ThreadRanks(Ranks):
    meeting: Meeting

    def total(self, *values: float) -> list[float]:
        return self.meeting.total(values)


@dataclass
class Two:
    """Two ranks that load the same examples, and the events that were emitted."""

    results: list[Future[tuple[Examples, Examples]]]
    events: list[RunEvent]


def load_on_two_ranks(tmp_path: Path, rows: list[dict[str, Any]], **spec: Any) -> Two:
    volume = Volume(tmp_path / "data")
    tokenizer = fit_tokenizer(gpt2_like(tmp_path / "base"), ALPACA)
    run = TrainingRun(
        job_id="job-1", attempt=1, dataset_id=write_rows(volume, rows), spec=TrainingSpec(**spec)
    )
    meeting, events = Meeting(), list[RunEvent]()

    def load(rank: int) -> tuple[Examples, Examples]:
        ranks = ThreadRanks(rank, 2, torch.device("cpu"), meeting)
        return load_examples(run, volume, ranks, ALPACA, tokenizer, events.append, tell_every=0)

    with ThreadPoolExecutor(2) as threads:
        return Two([threads.submit(load, rank) for rank in range(2)], events)


def test_all_ranks_map_what_one_has_tokenized(tmp_path: Path) -> None:
    two = load_on_two_ranks(tmp_path, ROWS, eval_split=0.1)
    (train, held_out), other = (result.result() for result in two.results)
    assert (len(train), len(held_out)) == (900, 100)
    assert (list(train), list(held_out)) == (list(other[0]), list(other[1]))
    rows = {bytes(example.ids) for example in (*train, *held_out)}
    assert len(rows) == 1000


def test_how_far_the_tokenizing_is_is_told_with_an_estimate(tmp_path: Path) -> None:
    events = load_on_two_ranks(tmp_path, ROWS).events
    assert all(isinstance(event, Preparing) for event in events)
    told = [event for event in events if isinstance(event, Preparing)]
    assert [event.rows for event in told] == sorted(event.rows for event in told)
    assert (told[-1].rows, told[-1].total_rows, told[-1].time_left) == (1000, 1000, 0)
    assert [event.total_rows for event in told] == pytest.approx([1000] * len(told), rel=0.1)


def test_a_row_that_cannot_be_trained_on_ends_every_rank(tmp_path: Path) -> None:
    two = load_on_two_ranks(tmp_path, [*ROWS, {"instruction": "Q"}])
    with pytest.raises(DatasetError, match="row 1000"):
        two.results[0].result()
    with pytest.raises(CorralError, match="says why"):
        two.results[1].result()
