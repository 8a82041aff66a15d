"""The files of one checkpoint: taken from the model at one moment, written at a later one.

Knows nothing of when that is, nor of the other ranks' progress.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig

from corral.checkpoints.folders import CheckpointWriter
from corral.checkpoints.manifest import (
    AdapterEntry,
    FileEntry,
    Manifest,
    Metrics,
    weights_hash,
)
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import FittedTokenizer
from corral.run import TrainingRun
from corral.storage import storage_errors
from corral.training import lora
from corral.training.parallel import Ranks
from corral.training.snapshot import Keep, adapter_tensors, model_tensors, moment_tensors
from corral.training.state import RunState, cursor_file, encode_state, state_file
from corral.training.tensor_files import StoredTensor, safetensors_pieces

WEIGHTS_NAME = "model.safetensors"
_METADATA = {"format": "pt"}


@dataclass(frozen=True)
class Identity:
    """What all checkpoints of a run have in common."""

    run: TrainingRun
    template: PromptTemplate
    tokenizer: FittedTokenizer
    # The base model's folder.
    base: Path
    # None where all weights are trained.
    lora: LoraConfig | None = None

    @cached_property
    def adapter(self) -> AdapterEntry | None:
        """What the adapter belongs to. The first call reads the whole base."""
        if self.lora is None:
            return None
        return AdapterEntry(folder=lora.ADAPTER_FOLDER, base_sha256=weights_hash(self.base))


@dataclass(frozen=True)
class CheckpointFiles:
    """What this rank has to write of a checkpoint. The main rank writes the model, every rank its
    shard of the optimizer's moments.
    """

    identity: Identity
    ranks: Ranks
    state: RunState
    total_steps: int
    metrics: Metrics
    model: Any
    # By the names of their .safetensors files.
    tensors: dict[str, list[StoredTensor]]

    @classmethod
    def take(
        cls,
        identity: Identity,
        ranks: Ranks,
        model: Any,
        optimizer: torch.optim.Optimizer,
        state: RunState,
        total_steps: int,
        metrics: Metrics,
        keep: Keep,
    ) -> CheckpointFiles:
        """The checkpoint as of now. A collective, since sharded weights are gathered."""
        tensors = {WEIGHTS_NAME: model_tensors(model, ranks, keep)}
        if identity.lora is not None:
            tensors[lora.ADAPTER_WEIGHTS] = adapter_tensors(model, ranks, keep)
        if not ranks.is_main:
            tensors = {}
        taken = cls(identity, ranks, state, total_steps, metrics, model, tensors)
        if not taken.is_final:
            own = state_file(ranks.rank, ranks.world_size)
            tensors[own] = moment_tensors(model, optimizer, ranks, keep)
        return taken

    @property
    def is_final(self) -> bool:
        """Whether it is the one after the last step. It carries no training state, since nothing is
        left to do.
        """
        return self.state.step >= self.total_steps

    def write(self, writer: CheckpointWriter) -> None:
        """Write this rank's files. Raises StorageFullError or StorageFailedError."""
        for name, tensors in self.tensors.items():
            writer.write(name, safetensors_pieces(tensors, _METADATA))
        if not self.ranks.is_main:
            writer.hand_over(self.ranks.rank)
            return
        if not self.is_final:
            writer.write(cursor_file(), [encode_state(self.state)])
        if self.identity.lora is not None:
            writer.write(lora.ADAPTER_CONFIG, [lora.adapter_config(self.identity.lora)])
        with storage_errors(f"checkpoint {writer.name}"):
            write_config(self.model, self.identity.tokenizer, writer.path)
            self.identity.tokenizer.save(writer.path)

    def manifest(self, files: dict[str, FileEntry]) -> Manifest:
        """The manifest, given the entries of all ranks' files."""
        identity = self.identity
        return Manifest(
            job_id=identity.run.job_id,
            attempt=identity.run.attempt,
            step=self.state.step,
            total_steps=self.total_steps,
            is_final=self.is_final,
            base_model=identity.run.spec.model,
            template=identity.template.to_manifest(),
            template_sha256=identity.template.sha256,
            tokenizer_sha256=identity.tokenizer.sha256,
            spec=identity.run.spec,
            dataset_id=identity.run.dataset_id,
            metrics=self.metrics,
            created_at=time.time(),
            adapter=identity.adapter,
            files=files,
        )


def write_config(model: Any, tokenizer: FittedTokenizer, folder: Path) -> None:
    """config.json and generation_config.json, with the end and padding tokens that were trained."""
    for config in (model.config, model.generation_config):
        config.eos_token_id = tokenizer.end_token_id
        config.pad_token_id = tokenizer.pad_token_id
        config.save_pretrained(folder)
