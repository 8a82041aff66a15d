"""`python -m corral.training.measure VOLUME`: how fast this machine trains, by a few real steps.

Reads a run on stdin and prints one line of JSON: `tokens_per_second` of one rank, the examples' own
tokens. One forward and backward pass and one update make a step, so that it is over soon; nothing is
saved, no event is written. Knows nothing of plans.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

from corral.run import RunEvent, TrainingRun
from corral.training.parallel import joined_ranks
from corral.training.preparing import prepare
from corral.training.step import optimizer_step
from corral.volume import Volume

# The first one warms up: memory is allocated, kernels are chosen.
_STEPS = 3


def main() -> None:
    """Measure, and print the figure."""
    run = TrainingRun.model_validate_json(sys.stdin.buffer.read())
    print(json.dumps({"tokens_per_second": measure(run, Volume(Path(sys.argv[1])))}))  # noqa: T201


def measure(run: TrainingRun, volume: Volume) -> float:
    """Tokens a second of one process, with the run's model, precision and forward passes."""
    fields = {"gradient_accumulation_steps": 1, "processes": 1, "nodes": 1, "eval_prompts": 0}
    short = run.model_copy(update={"spec": run.spec.model_copy(update=fields)})
    with joined_ranks() as ranks:
        prepared = prepare(short, volume, ranks, _say_nothing)
        tokens, seconds = 0.0, 0.0
        steps = islice(prepared.order.steps(prepared.state.cursor), _STEPS)
        for number, plan in enumerate(steps, start=1):
            result = optimizer_step(prepared, plan, number, ranks, stop=False)
            if number > 1 or prepared.total_steps == 1:
                tokens, seconds = tokens + result.tokens, seconds + result.seconds
    return tokens / seconds


def _say_nothing(event: RunEvent) -> None:
    """Nobody follows a measurement."""


if __name__ == "__main__":
    main()
