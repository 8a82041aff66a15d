"""Checkpoints made of a tiny model, as a run would leave them, and jobs that have published them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corral.checkpoints.folders import CheckpointWriter
from corral.checkpoints.manifest import FileEntry, Manifest, Metrics
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

    training_spec = TrainingSpec(model=str(model), **spec)
    template = PromptTemplate.from_spec(training_spec, model)
    tokenizer = fit_tokenizer(model, template)
    writer = CheckpointWriter(volume.checkpoints(job_id), step, attempt=1)
    writer.begin()
    weights: Any = load_trainable(model, tokenizer.vocab_size)
    weights.save_pretrained(writer.path)
    tokenizer.save(writer.path)

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
            files=files,
        )

    return writer.commit(manifest)


async def publish_job(
    store: JobStore, *, job_id: str, steps: tuple[int, ...] = (), **spec: Any
) -> Job:
    """A job of that id which has published checkpoints of those steps. The store's queue must be
    empty.
    """
    submission = Submission(id=job_id, spec=TrainingSpec(**spec), dataset_id=DATASET_ID)
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
            created_at=1_700_000_000.0 + step,
        )
        await store.publish(job_id, job.attempt, checkpoint)
    return await store.get(job_id)
