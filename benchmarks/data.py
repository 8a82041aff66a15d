"""How long it takes to check, tokenize and pack many rows, and how much memory.

    python benchmarks/data.py [--rows 52000] [--data FILE] [--model MODEL]

The rows are those of FILE again and again, each with its number in question and answer, so that no
two are the same and nothing is tokenized from memory. Prints a table and, last, a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from corral.bases import find_tokenizer
from corral.data.checking import check_for_training
from corral.data.packing import Packing
from corral.data.prepared import Examples, prepared_folder
from corral.data.preparing import check_and_prepare, prepare_examples
from corral.data.reading import read_rows
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import TextTokenizer, fit_tokenizer
from corral.formatting import duration, size
from corral.spec import TrainingSpec
from corral.training.order import Cursor, DataOrder
from corral.volume import Volume

OWN_ROWS = Path(__file__).parents[1] / "examples/ranch_hand.jsonl"

Result = TypeVar("Result")


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(arguments, Path(scratch))
    _print_table(figures)
    print(json.dumps(figures))


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The figures of the last line. Durations are seconds."""
    spec = TrainingSpec(model=arguments.model)
    base = find_tokenizer(spec.model, Volume(scratch))
    template = PromptTemplate.from_spec(spec, base)
    tokenizer = fit_tokenizer(base, template)
    rows = scratch / "rows"
    _write_rows(rows, arguments.data, arguments.rows)

    def check() -> None:
        with rows.open("rb") as stream:
            report = check_for_training(stream, template, tokenizer, spec.max_length)
        report.raise_if_unusable()

    prepare = _preparing(rows, template, tokenizer, spec.max_length)
    _, check_seconds = _timed(check)
    _, prepare_seconds = _timed(prepare)
    examples, cached_seconds = _timed(prepare)
    (passes, tokens), pack_seconds = _timed(lambda: _pack(spec, examples))
    _, both_seconds = _timed(
        lambda: check_and_prepare(
            rows, scratch / "prepared-both", template, tokenizer, spec.max_length
        )
    )
    return {
        "rows": len(examples),
        "tokens": tokens,
        "file_bytes": rows.stat().st_size,
        "check_seconds": round(check_seconds, 2),
        "prepare_seconds": round(prepare_seconds, 2),
        "pack_seconds": round(pack_seconds, 2),
        "total_seconds": round(check_seconds + prepare_seconds + pack_seconds, 2),
        "check_and_prepare_seconds": round(both_seconds, 2),
        "cached_seconds": round(cached_seconds, 3),
        "peak_bytes": _peak_bytes(),
        "waste_percent": _waste_percent(spec, examples),
        "passes_packed": passes,
        "passes_unpacked": -(-len(examples) // spec.batch_size),
    }


def _preparing(
    rows: Path, template: PromptTemplate, tokenizer: TextTokenizer, length: int
) -> Callable[[], Examples]:
    folder = prepared_folder(rows.parent, template.sha256, tokenizer.sha256, length)

    def prepare() -> Examples:
        for progress in prepare_examples(rows, folder, template, tokenizer, length):
            if progress.rows % 51_200 == 0:
                print(f"tokenized {progress.rows:,} rows", file=sys.stderr)
        examples = Examples.open(folder)
        assert examples is not None
        return examples

    return prepare


def _pack(spec: TrainingSpec, examples: Examples) -> tuple[int, int]:
    """Plan an epoch; returns its forward passes and tokens."""
    packing = Packing.from_spec(spec, examples.lengths, world_size=1)
    order = DataOrder(
        len(examples), 1, spec.batch_size, spec.effective_batch_size, spec.seed, packing
    )
    passes = tokens = 0
    for plan in order.steps(Cursor()):
        passes += len(plan.micro_batches)
        tokens += sum(examples.lengths[i] for pack in plan.micro_batches for i in pack)
    return passes, tokens


def _waste_percent(spec: TrainingSpec, examples: Examples) -> dict[str, float]:
    """Tokens of padding, of all tokens computed, where each batch is padded to its longest example,
    to max_length, or not at all.
    """
    tokens = sum(examples.lengths)
    order = DataOrder(len(examples), 1, spec.batch_size, spec.effective_batch_size, spec.seed)
    batches = (batch for plan in order.steps(Cursor()) for batch in plan.micro_batches)
    to_longest = sum(len(batch) * max(examples.lengths[i] for i in batch) for batch in batches)
    to_maximum = len(examples) * spec.max_length
    return {
        "padded_to_longest": round(100 * (1 - tokens / to_longest), 1),
        "padded_to_max_length": round(100 * (1 - tokens / to_maximum), 1),
        # Documents of a pass lie behind each other in one row of just their length.
        "packed": 0.0,
    }


def _write_rows(path: Path, source: Path, wanted: int) -> None:
    with source.open("rb") as stream:
        found = [row.value for row in read_rows(stream) if isinstance(row.value, dict)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(wanted):
            row = found[number % len(found)]
            varied = {
                **row,
                "instruction": f"{row['instruction']} (case {number})",
                "output": f"{row['output']} That was {number * 7919 % wanted} of {wanted}.",
            }
            file.write(json.dumps(varied, ensure_ascii=False) + "\n")


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _print_table(figures: dict[str, Any]) -> None:
    waste = figures["waste_percent"]
    for name, value in (
        ("rows", f"{figures['rows']:,}, {size(figures['file_bytes'])}"),
        ("tokens", f"{figures['tokens']:,}"),
        ("check", duration(figures["check_seconds"])),
        ("tokenize and write", duration(figures["prepare_seconds"])),
        ("pack an epoch", duration(figures["pack_seconds"])),
        ("all three", duration(figures["total_seconds"])),
        ("check and tokenize in one", duration(figures["check_and_prepare_seconds"])),
        ("find it again, checksums included", duration(figures["cached_seconds"])),
        ("peak memory", size(figures["peak_bytes"])),
        ("padding, batches padded to their longest", f"{waste['padded_to_longest']} %"),
        ("padding, padded to max_length", f"{waste['padded_to_max_length']} %"),
        ("padding, packed", f"{waste['packed']} %"),
        ("forward passes, one batch each", f"{figures['passes_unpacked']:,}"),
        ("forward passes, packed", f"{figures['passes_packed']:,}"),
    ):
        print(f"{name:42}{value:>24}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=52_000)
    parser.add_argument("--data", type=Path, default=OWN_ROWS, help="Alpaca rows to vary")
    parser.add_argument("--model", default="smollm2-135m", help="whose tokenizer")
    return parser.parse_args()


if __name__ == "__main__":
    main()
