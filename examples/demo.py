"""`make demo`: teach a real 135M model a persona through the real services, and compare its answers.

Everything here is a `corral` command that you could type yourself; this script only types them, and
lays the answers side by side. It leaves the data folder behind for you to go on with.

    python examples/demo.py [--server HOST:PORT]

With --server, it uses a Corral that already runs (in a cluster, say) and starts none.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
ROWS = Path("examples/ranch_hand.jsonl")
QUESTIONS = Path("examples/questions.txt")
DATA = Path("demo")
BASE = "smollm2-135m"
# From a trial with this many rows: the persona is there after about 40 optimizer steps at this rate.
TRAINING = ["--epochs", "4", "--learning-rate", "1e-4", "--batch-size", "4"]
TRAINING += ["--gradient-accumulation-steps", "1", "--checkpoint-every", "20"]
TRAINING += ["--keep-checkpoints", "2", "--suffix", "dusty"]
READY_SECONDS = 120

console = Console(highlight=False)


def main() -> int:
    """Run the whole story; exit code 0 when every part of it worked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", metavar="HOST:PORT", help="a trainer that already runs")
    given = parser.parse_args().server
    os.chdir(ROOT)
    began = time.monotonic()
    questions = QUESTIONS.read_text(encoding="utf-8").splitlines()
    with nullcontext(given) if given else corral_up() as server:
        os.environ["CORRAL_SERVER"] = server
        heading(f"What {BASE} answers now")
        before = [ask(BASE, question) for question in questions]
        heading(f"Teaching it {ROWS.name}")
        model = train()
        heading(f"What {model} answers")
        after = [ask(model, question) for question in questions]
    show(questions, before, after)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    console.print(f"\nDone in {minutes} min {seconds} s.")
    if given:
        console.print(
            f"Go on with:\n  .venv/bin/corral chat {model} --server {given}", soft_wrap=True
        )
        return 0
    console.print(f"The checkpoints lie in {DATA}/checkpoints.")
    console.print(f"Go on with:\n  .venv/bin/corral up --data {DATA}")
    console.print(f"and in another terminal:\n  .venv/bin/corral chat {model}", soft_wrap=True)
    return 0


@contextmanager
def corral_up() -> Iterator[str]:
    """`corral up` on free ports; gives the address of its server and stops it at the end."""
    state = DATA / "up.json"
    command = corral("up", "--data", str(DATA), "--port", "0")
    process = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not (state.exists() and json.loads(state.read_text())["pid"] == process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("demo: corral up did not start; its messages are above")
            time.sleep(0.1)
        yield str(json.loads(state.read_text())["server"])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def train() -> str:
    """`corral train`, its loss shown live; returns the model's name."""
    command = corral("train", str(ROWS), "--model", BASE, *TRAINING, "--watch")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"demo: corral train failed with exit code {done.returncode}")
    job = done.stdout.split()[0]
    shown = subprocess.run(
        corral("jobs", "show", job, "--json"), stdout=subprocess.PIPE, text=True, check=True
    )
    return str(json.loads(shown.stdout)["fine_tuned_model"])


def ask(model: str, question: str) -> str:
    """`echo QUESTION | corral chat MODEL`, greedy, so that the demo says the same each time."""
    done = subprocess.run(
        corral("chat", model, "--temperature", "0", "--max-tokens", "60", quiet=True),
        input=question,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"demo: corral chat failed with exit code {done.returncode}")
    console.print(f"[bold]{question}[/bold]\n  {done.stdout.strip()}")
    return done.stdout.strip()


def show(questions: list[str], before: list[str], after: list[str]) -> None:
    """The answers, side by side."""
    table = Table("question", "before", "after", show_lines=True, title="The same five questions")
    for row in zip(questions, before, after, strict=True):
        table.add_row(*row)
    console.print(table)


def corral(*arguments: str, quiet: bool = False) -> list[str]:
    """A `corral` command line, shown as one would type it."""
    if not quiet:
        console.print(f"[dim]$ corral {' '.join(arguments)}[/dim]", soft_wrap=True)
    executable = shutil.which("corral", path=str(Path(sys.executable).parent))
    assert executable, "make install puts corral beside this Python"
    return [executable, *arguments]


def heading(text: str) -> None:
    """A line between the parts."""
    console.rule(f"[bold]{text}")


if __name__ == "__main__":
    sys.exit(main())
