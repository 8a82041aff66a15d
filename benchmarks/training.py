"""One training step of Corral beside what people would use instead, on the same examples.

    .venv/bin/python benchmarks/training.py [--data FILE] [--parts corral,trl-best,…]

One machine, one model (SmolLM2-135M), one set of real examples, the same number of optimizer steps.
Contenders run one after the other, each in a process of its own on one core; opponents in
.venv-bench (`make benchmark-training` makes it). Every step sees the same examples, so losses can be
compared step by step; a step's time is the median of all steps but the first.

Parts can be run by themselves: figures are kept in --results, and the last line, one object of JSON,
is put together from all that are there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from corral.bases import find_base
from corral.data.examples import tokenize
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import fit_tokenizer
from corral.launchers.torchrun import ENVIRONMENT, torchrun_command
from corral.run import LineTail, Started, StepDone, TrainingRun, parse_events
from corral.spec import TrainingSpec
from corral.volume import Volume

ROOT = Path(__file__).resolve().parent.parent
MODEL = "smollm2-135m"
EXAMPLES = 8
MAX_LENGTH = 1024
LEARNING_RATE = 2e-5
OPPONENTS = ("trl-default", "trl-best", "padded-fp32")
# Steps this large are what two processes share.
SHARED_EXAMPLES = 32
CURVE_STEPS = 30
DEADLINE_SECONDS = 600.0

Figures = dict[str, Any]


class Bench:
    """Where the parts find their data and leave their figures."""

    def __init__(self, data: Path, steps: int, results: Path) -> None:
        self.steps = steps
        self.results = results
        self.volume = Volume(results / "volume")
        self.rows = _rows(data)
        self.base = find_base(MODEL, self.volume)

    def write_rows(self, count: int) -> Path:
        """The first rows as a file of their own, as often as it takes to have so many."""
        rows = [self.rows[at % len(self.rows)] for at in range(count)]
        path = self.results / f"rows-{count}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def train(self, name: str, count: int, core: str, **fields: Any) -> Figures:
        """A real run as a launcher starts it, on the cores that are named."""
        rows = self.write_rows(count).read_bytes()
        dataset = hashlib.sha256(rows).hexdigest()
        self.volume.dataset(dataset).mkdir(parents=True, exist_ok=True)
        self.volume.dataset_rows(dataset).write_bytes(rows)
        defaults = {"lr_scheduler": "constant", "warmup_ratio": 0.0, "eval_prompts": 0}
        defaults |= {"checkpoint_every": 10_000, "max_steps": self.steps, "epochs": 1000}
        spec = TrainingSpec(
            model=str(self.base),
            learning_rate=LEARNING_RATE,
            max_length=MAX_LENGTH,
            **defaults | fields,
        )
        attempt = 1
        while self.volume.run(name, attempt).run_file.exists():
            attempt += 1
        run_file = self.volume.run(name, attempt).run_file
        TrainingRun(job_id=name, attempt=attempt, dataset_id=dataset, spec=spec).write(run_file)
        command = torchrun_command(
            run_file,
            name=name,
            nodes=1,
            processes_per_node=spec.processes,
            python=sys.executable,
        )
        log = run_file.parent / "log.txt"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                ["taskset", "-c", core, *command], env=_environment(), stdout=stream, stderr=stream
            )
            _, status, usage = os.wait4(process.pid, 0)
        started, steps = _events(run_file.parent / "events.jsonl")
        if status or started is None or len(steps) < spec.max_steps:
            raise SystemExit(f"{name} failed, see {log}")
        times = [started.time, *(step.time for step in steps)]
        return {
            "seconds": [after - before for before, after in pairwise(times)],
            "losses": [step.loss for step in steps],
            # Of the largest process.
            "peak_bytes": usage.ru_maxrss * 1024,
        }

    def work_file(self) -> Path:
        """The examples for the opponents, tokenized as Corral tokenizes them."""
        template = PromptTemplate.from_spec(TrainingSpec(model=str(self.base)), self.base)
        tokenizer = fit_tokenizer(self.base, template)
        with self.write_rows(EXAMPLES).open("rb") as rows:
            examples = [
                {"ids": list(example.ids), "trained": list(example.trained)}
                for example in tokenize(rows, template, tokenizer, MAX_LENGTH)
            ]
        path = self.results / "work.json"
        work = {"model": str(self.base), "examples": examples, "steps": self.steps}
        path.write_text(
            json.dumps(work | {"learning_rate": LEARNING_RATE, "max_length": MAX_LENGTH})
        )
        return path


def corral(bench: Bench) -> Figures:
    """Corral's step on one core, its defaults."""
    return bench.train("corral", EXAMPLES, "0", batch_size=EXAMPLES, gradient_accumulation_steps=1)


def opponent(name: str) -> Callable[[Bench], Figures]:
    """A contender of benchmarks/training_opponents.py."""

    def measure(bench: Bench) -> Figures:
        python = ROOT / ".venv-bench/bin/python"
        if not python.exists():
            raise SystemExit("There is no .venv-bench: run make benchmark-training.")
        script = Path(__file__).with_name("training_opponents.py")
        done = subprocess.run(
            ["taskset", "-c", "0", str(python), str(script), name, str(bench.work_file())],
            # The environment that makes Corral's memory fast is given to them too.
            env=_environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        figures: Figures = json.loads(done.stdout.splitlines()[-1])
        return figures

    return measure


def processes(count: int) -> Callable[[Bench], Figures]:
    """Larger steps, by one or two processes of one thread each, under FSDP."""

    def measure(bench: Bench) -> Figures:
        return bench.train(
            f"processes-{count}",
            SHARED_EXAMPLES,
            "0" if count == 1 else "0,1",
            processes=count,
            batch_size=EXAMPLES,
            gradient_accumulation_steps=SHARED_EXAMPLES // EXAMPLES // count,
        )

    return measure


def first_step(bench: Bench) -> Figures:
    """Seconds from typing `corral train` to the end of the first step, through the real services.

    The base model is unpacked already; `corral up` runs.
    """
    served = Volume(bench.results / "served")
    find_base(MODEL, served)
    state = served.root / "up.json"
    state.unlink(missing_ok=True)
    executable = Path(sys.executable).with_name("corral")
    rows = bench.write_rows(EXAMPLES)
    services = subprocess.Popen(
        [executable, "up", "--data", str(served.root), "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(state.exists)
        server = json.loads(state.read_text())["server"]
        began = time.time()
        job = subprocess.run(
            [
                *(
                    executable,
                    "train",
                    str(rows),
                    "--model",
                    MODEL,
                    "--server",
                    server,
                    "--no-watch",
                ),
                *("--batch-size", str(EXAMPLES), "--gradient-accumulation-steps", "1"),
                *("--max-steps", "2", "--eval-prompts", "0"),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.split()[0]
        events = served.run(job, 1).events
        _wait(lambda: bool(_events(events)[1]))
        return {"first_step_seconds": _events(events)[1][0].time - began}
    finally:
        services.send_signal(signal.SIGINT)
        services.wait()


def checkpoint_stall(bench: Bench) -> Figures:
    """What a checkpoint every 50 steps costs: the time that one adds, in percent of 50 steps.

    What it adds is the pause after its step, and what the steps beside its writing take longer, which
    share the core with it.
    """
    every = 8
    seconds = bench.train(
        "stall",
        EXAMPLES,
        "0",
        batch_size=EXAMPLES,
        gradient_accumulation_steps=1,
        checkpoint_every=every,
        max_steps=3 * every,
    )["seconds"]
    # Before the first checkpoint, nothing is written.
    usual = median(seconds[1:every])
    # The second one, since the first allocates the memory that it is copied to. Its pause lies after
    # its step's event, and so in the next step's time; the third is waited for after the last step.
    added = [each - usual for each in seconds[2 * every :]]
    return {
        "stall_seconds": added[0],
        "seconds_beside_writing": sum(added[1:]),
        "checkpoint_stall_percent": 100 * sum(added) / (50 * usual),
    }


def curve(precision: str) -> Callable[[Bench], Figures]:
    """The losses of a run over examples that it has not seen before."""

    def measure(bench: Bench) -> Figures:
        return bench.train(
            f"curve-{precision}",
            CURVE_STEPS * EXAMPLES,
            "0,1",
            batch_size=EXAMPLES,
            gradient_accumulation_steps=1,
            precision=precision,
            max_steps=CURVE_STEPS,
        )

    return measure


PARTS: dict[str, Callable[[Bench], Figures]] = {
    "corral": corral,
    **{name: opponent(name) for name in OPPONENTS},
    "one-process": processes(1),
    "two-processes": processes(2),
    "first-step": first_step,
    "stall": checkpoint_stall,
}
# Losses instead of speeds, so not run unless they are named.
CURVES = {f"curve-{precision}": curve(precision) for precision in ("bf16", "bf16-pure")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT / "examples/ranch_hand.jsonl")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps of each contender")
    known = PARTS | CURVES
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(known)}")
    parser.add_argument("--results", type=Path, default=ROOT / "build/benchmark-training")
    given = parser.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    bench = Bench(given.data, given.steps, given.results.resolve())
    for name in given.parts.split(","):
        figures = known[name](bench)
        (given.results / f"{name}.json").write_text(json.dumps(figures))
        print(f"{name:14} {_line(figures)}", flush=True)
    print(json.dumps(summary(given.results)))


def summary(results: Path) -> dict[str, float | None]:
    """The figures that the goals are about, None where their parts have not been run."""
    parts = {
        name: json.loads(path.read_text())
        for name in PARTS
        if (path := results / f"{name}.json").exists()
    }
    ours, exact = parts.get("corral"), parts.get("padded-fp32")
    speedups = {
        f"speedup_vs_{name.replace('-', '_')}": _ratio(parts.get(name), ours) for name in OPPONENTS
    }
    return {
        **speedups,
        # Of the first step: all weights are the same there.
        "loss_difference": ours["losses"][0] - exact["losses"][0] if ours and exact else None,
        "two_process_speedup": _ratio(parts.get("one-process"), parts.get("two-processes")),
        "first_step_seconds": parts.get("first-step", {}).get("first_step_seconds"),
        "checkpoint_stall_percent": parts.get("stall", {}).get("checkpoint_stall_percent"),
        "peak_bytes": ours["peak_bytes"] if ours else None,
    }


def _ratio(slow: Figures | None, fast: Figures | None) -> float | None:
    return _typical(slow) / _typical(fast) if slow and fast else None


def _typical(figures: Figures) -> float:
    return median(figures["seconds"][1:])


def _line(figures: Figures) -> str:
    if "seconds" not in figures:
        return "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
    losses = " ".join(f"{loss:.4f}" for loss in figures["losses"])
    seconds = " ".join(f"{each:.1f}" for each in figures["seconds"])
    peak = figures["peak_bytes"] / 2**30
    return f"{_typical(figures):6.2f} s a step ({seconds})  losses {losses}  peak {peak:.2f} GiB"


def _events(path: Path) -> tuple[Started | None, list[StepDone]]:
    events = list(parse_events(LineTail(path).new_lines(100_000)))
    started = next((event for event in events if isinstance(event, Started)), None)
    return started, [event for event in events if isinstance(event, StepDone)]


def _environment() -> dict[str, str]:
    """What a launcher gives to a run, with one thread a process."""
    return {**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def _rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        rows: list[dict[str, Any]] = json.loads(text)
        return rows
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
