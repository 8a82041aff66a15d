"""A checkpoint of the run: a plain Hugging Face folder, the training state, the manifest last.

Every rank takes part, since sharded weights are gathered; the main rank writes the model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from corral.checkpoints.folders import CheckpointWriter
from corral.checkpoints.manifest import FileEntry, Manifest, Metrics
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import FittedTokenizer
from corral.errors import StorageFullError
from corral.run import TrainingRun
from corral.storage import storage_errors
from corral.training.parallel import Ranks, whole
from corral.training.state import RunState, save_state

WEIGHTS_NAME = "model.safetensors"


@dataclass(frozen=True)
class Saver:
    """Writes the checkpoints of one run below `folder`."""

    folder: Path
    run: TrainingRun
    template: PromptTemplate
    tokenizer: FittedTokenizer
    ranks: Ranks

    def save(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer,
        state: RunState,
        total_steps: int,
        metrics: Metrics,
    ) -> str:
        """Write one checkpoint and return its folder's name. A collective: every rank calls it.

        The one after the last step carries no training state, since nothing is left to do. Raises
        StorageFullError on every rank when any of them found no space.
        """
        writer = CheckpointWriter(self.folder, state.step, self.run.attempt)
        if self.ranks.is_main:
            writer.begin()
        self.ranks.barrier()
        is_final = state.step >= total_steps
        full = self._write(writer.path, model, optimizer, state, is_final)
        if any(self.ranks.total(float(full))):
            if self.ranks.is_main:
                writer.abandon()
            raise StorageFullError(
                f"No space is left on the volume for the checkpoint of step {state.step}.",
                "The last complete checkpoint is kept. Free space, or keep fewer checkpoints.",
            )
        if not self.ranks.is_main:
            return writer.path.name
        try:
            return writer.commit(
                lambda files: self._manifest(files, state, total_steps, is_final, metrics)
            ).name
        except BaseException:
            writer.abandon()
            raise

    def _write(
        self,
        folder: Path,
        model: Any,
        optimizer: torch.optim.Optimizer,
        state: RunState,
        final: bool,
    ) -> bool:
        """Write this rank's files; True where there was no space for them.

        Gathering goes on even then, or the other ranks would wait in it for ever.
        """
        weights = gather_weights(model, self.ranks)
        try:
            with storage_errors(f"the checkpoint of step {state.step}"):
                if self.ranks.is_main:
                    save_file(weights, folder / WEIGHTS_NAME, metadata={"format": "pt"})
                    write_config(model, self.tokenizer, folder)
                    self.tokenizer.save(folder)
                if not final:
                    save_state(folder, model, optimizer, state, self.ranks)
        except StorageFullError:
            return True
        return False

    def _manifest(
        self,
        files: dict[str, FileEntry],
        state: RunState,
        total_steps: int,
        is_final: bool,
        metrics: Metrics,
    ) -> Manifest:
        return Manifest(
            job_id=self.run.job_id,
            attempt=self.run.attempt,
            step=state.step,
            total_steps=total_steps,
            is_final=is_final,
            base_model=self.run.spec.model,
            template=self.template.to_manifest(),
            template_sha256=self.template.sha256,
            tokenizer_sha256=self.tokenizer.sha256,
            spec=self.run.spec,
            dataset_id=self.run.dataset_id,
            metrics=metrics,
            created_at=time.time(),
            files=files,
        )


def gather_weights(model: Any, ranks: Ranks) -> dict[str, Tensor]:
    """All weights, whole, on the main rank's CPU; empty on the others. A collective.

    Tied weights appear once, under the name that comes first: config.json says that they are tied.
    """
    weights = {}
    for name, parameter in model.named_parameters():
        full = whole(parameter.detach())
        if ranks.is_main:
            weights[name] = full.cpu().contiguous()
    return weights


def write_config(model: Any, tokenizer: FittedTokenizer, folder: Path) -> None:
    """config.json and generation_config.json, with the end and padding tokens that were trained."""
    for config in (model.config, model.generation_config):
        config.eos_token_id = tokenizer.end_token_id
        config.pad_token_id = tokenizer.pad_token_id
        config.save_pretrained(folder)
