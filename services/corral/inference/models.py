"""Which models there are: base models, and every checkpoint that a job has published.

A name becomes a folder here and nowhere else, and only the folder of a published checkpoint: what
merely lies on the volume is never served. Knows nothing of tensors or gRPC.
"""

from __future__ import annotations

import asyncio
import base64
import difflib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from corral.bases import find_base, list_bases
from corral.bases.smollm2 import NAME as SMOLLM2
from corral.errors import CorralError, InvalidRequestError, JobNotFoundError, ModelNotFoundError
from corral.jobs.records import Job, PublishedCheckpoint
from corral.jobs.store import JobStore
from corral.names import BEST, ID_PATTERN, ModelName, split_choice
from corral.volume import Volume

# Jobs that the hint about a wrong name looks at.
_HINTED_JOBS = 200
_LIST_HINT = "`corral models list` shows them all."


@dataclass(frozen=True)
class CheckpointOrigin:
    """Where a fine-tuned model comes from. `created_at` is seconds since the epoch."""

    base_model: str
    job_id: str
    step: int
    template: str
    created_at: float


@dataclass(frozen=True)
class ServableModel:
    """A model that may be served; `origin` is None for a base model, `size_bytes` 0 for one whose
    weights are not unpacked yet.
    """

    name: str
    folder: Path
    size_bytes: int
    origin: CheckpointOrigin | None = None


@dataclass(frozen=True)
class ModelPage:
    """Some models, and the token of the next page or an empty string."""

    models: tuple[ServableModel, ...]
    next_token: str


class _Cursor(BaseModel):
    """Where a list goes on: in the base models by name, then in the jobs, newest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # The last base model listed; None once all are.
    base: str | None = ""
    # The job that was listed in part, and down to which step.
    job: str = ""
    step: int = 0
    # The job store's token of the jobs behind it; None when there are none.
    jobs: str | None = ""

    def encode(self) -> str:
        return base64.urlsafe_b64encode(self.model_dump_json().encode()).decode()

    @classmethod
    def decode(cls, token: str) -> _Cursor:
        if not token:
            return cls()
        try:
            return cls.model_validate_json(base64.urlsafe_b64decode(token.encode()))
        except (ValueError, ValidationError):
            raise InvalidRequestError(
                "page_token: this list gave no such token.", "Leave it empty for the first page."
            ) from None


class Catalog:
    """The models of one volume and one job store."""

    def __init__(self, store: JobStore, volume: Volume) -> None:
        self._store = store
        self._volume = volume

    # ------------------------------------------------------------ one

    async def resolve(self, name: str) -> ServableModel:
        """The model of a name; of a job's id, or a name without a step, its newest checkpoint, or
        that of a step where `@50` follows, or its best where `@best` does.

        Raises ModelNotFoundError with the nearest existing names.
        """
        if not name:
            raise InvalidRequestError("model: no name is given.", _LIST_HINT)
        plain, choice = split_choice(name)
        # What begins like a folder may hold an @ of its own.
        if choice is not None and "/" not in plain.partition(":")[0]:
            return await self._chosen(name, plain, choice)
        parsed = ModelName.parse(name)
        if parsed is not None:
            return await self._fine_tuned(name, parsed)
        if ID_PATTERN.match(name) and (job := await self._job(name)) is not None:
            return self._newest(name, job)
        return await self._base(name)

    async def _fine_tuned(self, name: str, parsed: ModelName) -> ServableModel:
        job = await self._job(parsed.job)
        if job is None or replace(parsed, step=None) != job.model_name:
            raise await self._not_found(f"There is no model {name!r:.200}.", name)
        return self._newest(name, job) if parsed.step is None else self._at(job, parsed.step)

    async def _chosen(self, name: str, plain: str, choice: int | Literal["best"]) -> ServableModel:
        parsed = ModelName.parse(plain)
        job_id = parsed.job if parsed and parsed.step is None else plain
        job = await self._job(job_id) if ID_PATTERN.match(job_id) else None
        if job is None or (parsed and parsed != job.model_name):
            raise await self._not_found(f"There is no model {name!r:.200}.", plain)
        return self._best(job) if choice == BEST else self._at(job, choice)

    def _at(self, job: Job, step: int) -> ServableModel:
        for checkpoint in job.checkpoints:
            if checkpoint.step == step:
                return self._of(job, checkpoint)
        kept = ", ".join(str(checkpoint.step) for checkpoint in job.checkpoints)
        raise ModelNotFoundError(
            f"{job.id} has no checkpoint of step {step}.",
            f"Kept are those of step {kept}."
            if kept
            else f"It has none yet: `corral jobs watch {job.id}` shows when there is one.",
        )

    def _best(self, job: Job) -> ServableModel:
        if job.best is None:
            raise ModelNotFoundError(
                f"{job.id} has no checkpoint that was evaluated.",
                "Jobs with --eval-split or --early-stopping have. Without @best it is the newest.",
            )
        return self._of(job, job.best)

    def _newest(self, name: str, job: Job) -> ServableModel:
        if not job.checkpoints:
            raise ModelNotFoundError(
                f"{name} has no published checkpoint; the job is {job.state}.",
                f"`corral jobs watch {job.id}` shows when there is one.",
            )
        return self._of(job, job.checkpoints[-1])

    async def _base(self, name: str) -> ServableModel:
        try:
            folder = await asyncio.to_thread(find_base, name, self._volume, download=False)
        except ModelNotFoundError as error:
            raise await self._not_found(error.message, name, error.hint) from None
        if folder.resolve().is_relative_to(self._volume.all_checkpoints.resolve()):
            raise ModelNotFoundError(
                f"{folder} is a checkpoint's folder, which may be half written.",
                "Use the checkpoint's name. " + _LIST_HINT,
            )
        return await asyncio.to_thread(_base_model, name, folder)

    async def _job(self, job_id: str) -> Job | None:
        try:
            return await self._store.get(job_id)
        except JobNotFoundError:
            return None

    async def _not_found(self, message: str, name: str, hint: str = "") -> ModelNotFoundError:
        bases = await asyncio.to_thread(list_bases, self._volume)
        jobs = (await self._store.list_page(_HINTED_JOBS)).jobs
        known = [*bases, *(model.name for job in jobs for model, _ in self._below(job, None))]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        meant = f"Did you mean {' or '.join(near)}?" if near else ""
        return ModelNotFoundError(message, " ".join(filter(None, (hint, meant, _LIST_HINT))))

    # ------------------------------------------------------------ many

    async def list_page(self, size: int, token: str = "") -> ModelPage:
        """Base models by name, then checkpoints: the newest job's first, its last step first.

        A token stays good while jobs come and go. Raises InvalidRequestError for another's token.
        """
        models: list[ServableModel] = []
        behind = _Cursor()
        async with aclosing(self._walk(_Cursor.decode(token))) as walk:
            async for model, cursor in walk:
                if len(models) == size:
                    return ModelPage(tuple(models), behind.encode())
                models.append(model)
                behind = cursor
        return ModelPage(tuple(models), "")

    async def _walk(self, start: _Cursor) -> AsyncGenerator[tuple[ServableModel, _Cursor]]:
        """Every model behind a cursor, each with the cursor that goes on behind it."""
        if start.base is not None:
            for model in await asyncio.to_thread(self._bases_after, start.base):
                yield model, _Cursor(base=model.name)
        if start.job and (job := await self._job(start.job)) is not None:
            for model, step in self._below(job, start.step):
                yield model, start.model_copy(update={"step": step})
        token = start.jobs
        while token is not None:
            # One at a time: only a page's last job has a token behind it, and a page of models may
            # end with any.
            page = await self._store.list_page(1, token)
            token = page.next_token or None
            for job in page.jobs:
                for model, step in self._below(job, None):
                    yield model, _Cursor(base=None, job=job.id, step=step, jobs=token)

    def _bases_after(self, name: str) -> list[ServableModel]:
        later = sorted(base for base in list_bases(self._volume) if base > name)
        return [model for base in later if (model := self._listed_base(base)) is not None]

    def _listed_base(self, name: str) -> ServableModel | None:
        """A base model for a list, or None where it is gone or incomplete by now."""
        if name == SMOLLM2:
            # Where find_base unpacks it: a list shall not write half a gigabyte.
            return _base_model(name, self._volume.bases / name)
        try:
            return _base_model(name, find_base(name, self._volume, download=False))
        except CorralError:
            return None

    def _below(self, job: Job, step: int | None) -> Iterator[tuple[ServableModel, int]]:
        """The job's checkpoints below a step, or all, the newest first, with their steps."""
        for checkpoint in reversed(job.checkpoints):
            if step is None or checkpoint.step < step:
                yield self._of(job, checkpoint), checkpoint.step

    def _of(self, job: Job, checkpoint: PublishedCheckpoint) -> ServableModel:
        return ServableModel(
            name=str(job.model_name.at(checkpoint.step)),
            folder=self._volume.checkpoints(job.id) / checkpoint.folder,
            size_bytes=checkpoint.size_bytes,
            origin=CheckpointOrigin(
                base_model=job.spec.model,
                job_id=job.id,
                step=checkpoint.step,
                template=job.spec.template,
                created_at=checkpoint.created_at,
            ),
        )


def _base_model(name: str, folder: Path) -> ServableModel:
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return ServableModel(name, folder, size)
