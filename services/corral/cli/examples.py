"""The examples below each command's help, by the command's words.

Knows nothing of the commands: a test holds that each has some, and that each example is one that the
command line understands.
"""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "up": ("corral up", "corral up --data /mnt/models --port 8000"),
    "plan": (
        "corral plan my.jsonl --model gpt2",
        "corral plan my.jsonl --model Qwen/Qwen3-0.6B --gpu A100-80GB:2",
        "corral plan my.jsonl --on modal --gpu L4,A10G --json",
    ),
    "train": (
        "corral train my.jsonl",
        "corral train my.jsonl --model gpt2 --epochs 3 --suffix pirate",
        "corral train my.jsonl --preamble pb2e --eval-split 0.1",
        "corral train my.jsonl --on modal --gpu T4 --max-cost 0.50",
        "corral train 3fa92b1c --tuning lora --no-watch",
    ),
    "chat": (
        "corral chat smollm2-135m",
        "corral chat job-1f2e3d4c5b6a798@best --temperature 0",
        "corral chat gpt2 job-1f2e3d4c5b6a798",
        "echo 'Name three fruits.' | corral chat gpt2 --max-tokens 40",
        "corral chat gpt2 --json < prompt.txt",
    ),
    "compare-prompts": (
        "corral compare-prompts job-1f2e3d4c5b6a798",
        "corral compare-prompts job-1f2e3d4c5b6a798@best --prompts alpaca,my.jinja --rows 30",
    ),
    "version": ("corral version", "corral version --json"),
    "login": (
        "corral login --server gpu-box:7470 --name lab",
        "corral login --server gpu-box:7470 --name lab --key - < key.txt",
    ),
    "logout": ("corral logout", "corral logout lab"),
    "profiles": ("corral profiles", "corral profiles --use lab", "corral profiles --json"),
    "jobs list": ("corral jobs list", "corral jobs list --state running --state queued --json"),
    "jobs show": ("corral jobs show job-1f2e3d4c5b6a798",),
    "jobs watch": (
        "corral jobs watch job-1f2e3d4c5b6a798",
        "corral jobs watch job-1f2e3d4c5b6a798 --log",
        "corral jobs watch job-1f2e3d4c5b6a798 --json > events.jsonl",
    ),
    "jobs cancel": ("corral jobs cancel job-1f2e3d4c5b6a798",),
    "jobs pause": ("corral jobs pause job-1f2e3d4c5b6a798",),
    "jobs resume": ("corral jobs resume job-1f2e3d4c5b6a798",),
    "jobs delete": ("corral jobs delete job-1f2e3d4c5b6a798 --yes",),
    "models list": ("corral models list", "corral models list --json"),
    "models show": ("corral models show job-1f2e3d4c5b6a798@50",),
    "models import": (
        "corral models import ./my-model --name my-model",
        "corral models import model.gguf --name llama-8b",
    ),
    "models pull": ("corral models pull Qwen/Qwen3-0.6B",),
    "models export": (
        "corral models export job-1f2e3d4c5b6a798@best ./pirate",
        "corral models export job-1f2e3d4c5b6a798 ./pirate --to gguf --type q8_0",
    ),
    "models delete": ("corral models delete my-model --yes",),
    "data check": (
        "corral data check my.jsonl",
        "corral data check my.jsonl --model gpt2 --max-length 512",
        "corral data check my.jsonl --json",
    ),
    "data convert": (
        "corral data convert alpaca.json joined.jsonl",
        "corral data convert alpaca.json | head",
    ),
    "data list": ("corral data list", "corral data list --json"),
    "data show": ("corral data show 3fa92b1c",),
    "data delete": ("corral data delete 3fa92b1c --yes",),
    "modal volumes": ("corral modal volumes", "corral modal volumes --json"),
    "modal clean": ("corral modal clean", "corral modal clean --others --yes"),
}


def epilog(command: str) -> str:
    """The examples of a command as Typer shows them: each on a line of its own."""
    return "\n".join(["[bold]Examples[/bold]", *(f"  {one}" for one in EXAMPLES[command])])
