"""The planner's memory against measured peaks: three models, four settings, one table.

Each run is a real training of two steps in a process of its own, with a checkpoint saved beside the
second step; its peak is what the system says of the process (ru_maxrss). Ends in one line of JSON.

    python benchmarks/memory.py [--data ROWS] [--only MODEL]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corral import formatting
from corral.bases import find_base
from corral.data.checking import check_for_training
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import fit_tokenizer
from corral.planning.devices import this_machine
from corral.planning.memory import Memory, peak_memory
from corral.planning.shapes import read_shape
from corral.planning.workload import workload
from corral.run import TrainingRun
from corral.spec import TrainingSpec
from corral.volume import Volume

SETTINGS: dict[str, dict[str, Any]] = {
    "batch 4": {"batch_size": 4},
    "batch 2, fp32, unpacked": {"batch_size": 2, "precision": "fp32", "packing": False},
    "batch 8, recomputed": {"batch_size": 8, "gradient_checkpointing": True},
    "batch 4, LoRA": {"batch_size": 4, "tuning": "lora"},
}
COMMON = {
    "max_length": 512,
    "max_steps": 2,
    "checkpoint_every": 1,
    "gradient_accumulation_steps": 4,
    "eval_prompts": 0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("examples/ranch_hand.jsonl"))
    parser.add_argument("--only", help="One of the models.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        volume = Volume(Path(folder))
        dataset = _dataset(volume, arguments.data)
        measured = []
        for model in _models(volume):
            if arguments.only in (None, model):
                measured += [_compare(volume, dataset, model, name) for name in SETTINGS]
    worst = max(measured, key=lambda one: abs(one["off_percent"]))
    print(json.dumps({"runs": measured, "worst_off_percent": worst["off_percent"]}))


def _models(volume: Volume) -> Iterator[str]:
    """SmolLM2, and two with random weights of other shapes, with its tokenizer."""
    smollm2 = find_base("smollm2-135m", volume)
    yield "smollm2-135m"
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    vocabulary = json.loads((smollm2 / "config.json").read_text())["vocab_size"]
    gpt2 = GPT2Config(vocab_size=vocabulary, bos_token_id=0, eos_token_id=0)
    wide = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=6,
        num_attention_heads=12,
        num_key_value_heads=12,
        tie_word_embeddings=False,
    )
    for name, model_class, config in (
        ("gpt2-124m", GPT2LMHeadModel, gpt2),
        ("llama-118m", LlamaForCausalLM, wide),
    ):
        torch.manual_seed(0)
        model_class(config).save_pretrained(volume.bases / name)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (volume.bases / name / file).write_bytes((smollm2 / file).read_bytes())
        yield name


def _dataset(volume: Volume, rows: Path) -> str:
    content = rows.read_bytes()
    dataset = hashlib.sha256(content).hexdigest()
    volume.dataset(dataset).mkdir(parents=True)
    volume.dataset_rows(dataset).write_bytes(content)
    return dataset


def _compare(volume: Volume, dataset: str, model: str, setting: str) -> dict[str, Any]:
    spec = TrainingSpec.model_validate({"model": model, **COMMON, **SETTINGS[setting]})
    planned = _planned(volume, dataset, spec)
    peak = _peak(
        volume, TrainingRun(job_id=_job(model, setting), attempt=1, dataset_id=dataset, spec=spec)
    )
    off = 100 * (planned.total / peak - 1)
    print(
        f"{model:14} {setting:26} planned {formatting.size(planned.total):>9}"
        f"  measured {formatting.size(peak):>9}  {off:+6.1f} %  ({planned.sentence()})",
        flush=True,
    )
    return {
        "model": model,
        "setting": setting,
        "planned_bytes": planned.total,
        "peak_bytes": peak,
        "off_percent": round(off, 1),
    }


def _job(model: str, setting: str) -> str:
    return "job-" + hashlib.sha256(f"{model} {setting}".encode()).hexdigest()[:12]


def _planned(volume: Volume, dataset: str, spec: TrainingSpec) -> Memory:
    base = find_base(spec.model, volume)
    template = PromptTemplate.from_spec(spec, base)
    tokenizer = fit_tokenizer(base, template)
    with volume.dataset_rows(dataset).open("rb") as stream:
        report = check_for_training(stream, template, tokenizer, spec.max_length)
    assert report.tokens is not None
    work = workload(spec, Counter(dict(report.tokens.histogram)), report.tokens.trained)
    shape = read_shape(base).with_vocabulary(tokenizer.vocab_size)
    return peak_memory(spec, shape, this_machine(), work)


def _peak(volume: Volume, run: TrainingRun) -> int:
    """Bytes that the training process took at most."""
    run_file = volume.run(run.job_id, run.attempt).run_file
    run.write(run_file)
    command = [sys.executable, "-m", "corral.training", str(run_file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(said.decode()[-2000:])
    return usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
