"""The same training steps by others: TRL's SFTTrainer, Hugging Face's Trainer. One contender a call.

    .venv-bench/bin/python benchmarks/training_opponents.py NAME WORK.json

WORK.json holds the model's folder, the examples as token ids with label masks, the number of steps
and the learning rate. Every step sees all examples. Prints one line of JSON. Runs in an environment
of its own, without Corral; its caller is benchmarks/training.py.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """Seconds of each optimizer step, and its loss."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self._began)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


def main() -> None:
    name, path = sys.argv[1:]
    work = json.loads(Path(path).read_text())
    torch.set_num_threads(1)
    contenders = {
        "trl-default": trl_default,
        "trl-best": trl_best,
        "padded-fp32": padded_fp32,
    }
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = contenders[name](work, folder)
        trainer.add_callback(clock)
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": clock.seconds, "losses": clock.losses, "peak_bytes": peak}))


def common(work: dict[str, Any], folder: str) -> dict[str, Any]:
    """What is not a matter of taste: the same steps, on a CPU, nothing saved."""
    return {
        "output_dir": folder,
        "max_steps": work["steps"],
        "learning_rate": work["learning_rate"],
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }


def trl_default(work: dict[str, Any], folder: str) -> Trainer:
    """SFTTrainer as it is; only the batch holds all examples."""
    config = SFTConfig(
        **common(work, folder),
        per_device_train_batch_size=len(work["examples"]),
        completion_only_loss=True,
    )
    return _sft(work, config)


def trl_best(work: dict[str, Any], folder: str) -> Trainer:
    """Packing and bf16, without gradient checkpointing; as many packs at once as a step needs."""
    config = SFTConfig(
        **common(work, folder),
        per_device_train_batch_size=_packs(work),
        packing=True,
        max_length=work["max_length"],
        bf16=True,
        gradient_checkpointing=False,
        completion_only_loss=True,
    )
    return _sft(work, config)


def _packs(work: dict[str, Any]) -> int:
    from trl import pack_dataset

    examples = Dataset.from_list([{"input_ids": example["ids"]} for example in work["examples"]])
    return len(pack_dataset(examples, work["max_length"], "bfd"))


def _sft(work: dict[str, Any], config: SFTConfig) -> SFTTrainer:
    rows = [
        {"input_ids": example["ids"], "completion_mask": example["trained"]}
        for example in work["examples"]
    ]
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.float32),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(work["model"]),
    )


def padded_fp32(work: dict[str, Any], folder: str) -> Trainer:
    """Stanford Alpaca's loop: Trainer, float32, batches of 4 padded to their longest, prompts masked
    by -100.
    """
    config = TrainingArguments(
        **common(work, folder),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=-(-len(work["examples"]) // 4),
        bf16=False,
        remove_unused_columns=False,
    )
    return Trainer(
        model=AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.float32),
        args=config,
        train_dataset=work["examples"],
        data_collator=_pad,
    )


def _pad(examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(example["ids"]) for example in examples)
    ids = torch.zeros((len(examples), longest), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, example in enumerate(examples):
        length = len(example["ids"])
        ids[row, :length] = torch.tensor(example["ids"])
        mask[row, :length] = 1
        trained = torch.tensor(example["trained"], dtype=torch.bool)
        labels[row, :length][trained] = ids[row, :length][trained]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


if __name__ == "__main__":
    main()
