"""`make modal-demo`: train a 135M model on Modal's cheapest GPU, with your own account, and chat with it.

Shows the price and asks first. Everything here is a `corral` command that you could type yourself.

    python examples/modal_demo.py [--yes]

It needs MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, and refuses without.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from demo import BASE, ROOT, ROWS, TRAINING, console, corral, corral_up, heading

from corral.errors import CorralError
from corral.launchers.modal.gpus import parse_gpus
from corral.launchers.modal.prices import TABLE, dollars, estimate
from corral.launchers.modal.setup import credentials_of, machine_of
from corral.settings import load_settings

# The cheapest; it has no bf16, so it trains in fp32, which is no matter for 135M parameters.
GPU = "T4"
MAX_COST = 0.50
# Guessed, generously: with the image to be loaded and a hundred small steps.
LIKELY_SECONDS = 600.0


def main() -> int:
    """Exit code 0 when a model was trained, 1 when the answer was no, 2 where there is no token."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--yes", action="store_true", help="do not ask")
    agreed = parser.parse_args().yes
    os.chdir(ROOT)
    try:
        credentials_of(load_settings())
    except CorralError as error:
        console.print(f"{error.message}\n{error.hint}", style="red")
        return error.kind.value.exit_code
    show_price()
    if not agreed and console.input("Train it? \\[y/N] ").strip().lower() not in ("y", "yes"):
        return 1
    with corral_up() as server:
        os.environ["CORRAL_SERVER"] = server
        heading(f"Teaching {BASE} {ROWS.name} on Modal")
        run("train", str(ROWS), "--model", BASE, *TRAINING, *modal_flags(), "--watch")
        heading("What is left on Modal")
        run("modal", "volumes")
    return 0


def show_price() -> None:
    """What it probably comes to, and what it comes to at most."""
    choices = parse_gpus(GPU)
    machine = machine_of(load_settings())
    likely = estimate({GPU: LIKELY_SECONDS}, choices, machine)
    hour = TABLE.per_hour(choices[0], machine) or 0.0
    console.print(
        f"One {GPU} costs {dollars(hour)} an hour with its CPU and memory ({TABLE.source}). Ten "
        f"minutes are about {likely}; the run ends by itself at {dollars(MAX_COST)}."
    )


def modal_flags() -> list[str]:
    """Where it runs."""
    return ["--on", "modal", "--gpu", GPU, "--max-cost", str(MAX_COST)]


def run(*arguments: str) -> None:
    """Type a command; its failure ends the demo."""
    subprocess.run(corral(*arguments), check=True)


if __name__ == "__main__":
    sys.exit(main())
