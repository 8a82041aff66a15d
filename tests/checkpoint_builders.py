"""Checkpoints made of a tiny model, as a run would leave them, and jobs that have published them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from corral.checkpoints.folders import CheckpointWriter
from corral.checkpoints.manifest import AdapterEntry, FileEntry, Manifest, Metrics, weights_hash
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import fit_tokenizer
from corral.jobs.records import Job, PublishedCheckpoint, Submission
from corral.jobs.store import JobStore
from corral.spec import TrainingSpec
from corral.volume import Volume

DATASET_ID = "0" * 64


def write_checkpoint(
    volume: Volume, model: Path, *, job_id: str = "job-1", step: int = 10, **spec: Any
) -> Path:
    """A complete checkpoint of the untrained model in the folder `model`; returns its folder."""
    from corral.training.model import load_trainable

    return _write(volume, model, load_trainable, None, job_id, step, spec)


def write_lora_checkpoint(
    volume: Volume, base: Path, *, job_id: str = "job-1", step: int = 10, seed: int = 0, **spec: Any
) -> Path:
    """A complete checkpoint with a random adapter of the base model beside its merged weights, both
    written by peft; `lora_targets` says of which layers. Returns its folder.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    from corral.training.lora import linear_layers
    from corral.training.model import load_trainable

    targets = [name for name in str(spec.pop("lora_targets", "")).split(",") if name]

    def merged(folder: Path, vocabulary: int) -> Any:
        model: Any = load_trainable(folder, vocabulary)
        linear = sorted({name.rpartition(".")[2] for name in linear_layers(model)})
        # A GPT-2's matrices are stored the other way round.
        is_transposed = "c_attn" in linear
        config = LoraConfig(
            r=4, lora_alpha=6, target_modules=targets or linear, fan_in_fan_out=is_transposed
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapted = get_peft_model(model, config)
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    torch.nn.init.normal_(parameter.data, std=0.2)
        adapter.mkdir(parents=True)
        adapted.save_pretrained(adapter, save_embedding_layers=False)
        return adapted.merge_and_unload()

    adapter = volume.checkpoints(job_id) / f"adapter-{step}"
    return _write(volume, base, merged, adapter, job_id, step, spec)


def _write(
    volume: Volume,
    model: Path,
    make: Callable[[Path, int], Any],
    adapter: Path | None,
    job_id: str,
    step: int,
    spec: dict[str, Any],
) -> Path:
    training_spec = TrainingSpec(model=str(model), **spec)
    template = PromptTemplate.from_spec(training_spec, model)
    tokenizer = fit_tokenizer(model, template)
    writer = CheckpointWriter(volume.checkpoints(job_id), step, attempt=1)
    writer.begin()
    weights = make(model, tokenizer.vocab_size)
    weights.save_pretrained(writer.path)
    tokenizer.save(writer.path)
    entry = None
    if adapter is not None:
        adapter.rename(writer.path / "adapter")
        entry = AdapterEntry(folder="adapter", base_sha256=weights_hash(model))

    def manifest(files: dict[str, FileEntry]) -> Manifest:
        return Manifest(
            job_id=job_id,
            attempt=1,
            step=step,
            total_steps=step,
            is_final=True,
            base_model=training_spec.model,
            template=template.to_manifest(),
            template_sha256=template.sha256,
            tokenizer_sha256=tokenizer.sha256,
            spec=training_spec,
            dataset_id=DATASET_ID,
            metrics=Metrics(loss=1.5, epoch=1.0),
            created_at=1_700_000_000.0,
            adapter=entry,
            files=files,
        )

    return writer.commit(manifest)


async def publish_job(
    store: JobStore,
    *,
    job_id: str,
    steps: tuple[int, ...] = (),
    eval_losses: Mapping[int, float] | None = None,
    dataset_id: str = DATASET_ID,
    **spec: Any,
) -> Job:
    """A job of that id which has published checkpoints of those steps, with the held-out losses of
    some. The store's queue must be empty.
    """
    submission = Submission(id=job_id, spec=TrainingSpec(**spec), dataset_id=dataset_id)
    await store.submit(submission)
    job = await store.claim(f"worker-of-{job_id}", lease_seconds=600)
    assert job is not None
    assert job.id == job_id
    for step in steps:
        checkpoint = PublishedCheckpoint(
            step=step,
            attempt=job.attempt,
            folder=f"step-{step:08d}-a{job.attempt}",
            size_bytes=1000 + step,
            loss=1.5,
            eval_loss=(eval_losses or {}).get(step),
            created_at=1_700_000_000.0 + step,
        )
        await store.publish(job_id, job.attempt, checkpoint)
    return await store.get(job_id)
