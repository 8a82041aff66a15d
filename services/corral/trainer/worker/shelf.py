"""A job's checkpoints on the volume and in the store: adopted, published, pruned.

What the store lists is the truth; a folder is removed only after the store forgot it. Knows nothing
of runs.

Hashes are compared where somebody is about to build on a checkpoint: here before a run goes on from
one, when nothing is training, and by inference whenever it loads one. A checkpoint that a run has
just written is published by its manifest and its files' sizes: the hashes were made from the very
bytes that were written, and reading gigabytes again would take a core from the run that is training
on them (about a second for each 1.6 GB of a model of 135M parameters, every checkpoint) to learn what
each reader finds out for itself.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from corral.checkpoints.folders import complete_checkpoints, remove_checkpoint, remove_leftovers
from corral.checkpoints.manifest import Manifest, verify
from corral.errors import CheckpointCorruptError
from corral.jobs.records import Logged, PublishedCheckpoint
from corral.trainer.worker.recorder import Recorder

_log = structlog.stdlib.get_logger(__name__)


class Shelf:
    """The checkpoints of the job that a recorder writes about, below `folder`."""

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        self._folder = folder
        self._recorder = recorder

    @property
    def newest(self) -> PublishedCheckpoint | None:
        """The newest published checkpoint."""
        published = self._recorder.job.checkpoints
        return published[-1] if published else None

    async def take_over(self) -> None:
        """Bring folder and store together after an attempt that may have died at any point.

        Publishes what was written whole but not told, forgets what is gone, removes what nobody
        lists. Only once no run of the job is left. Raises CheckpointCorruptError where the whole
        folder is gone: that is a volume which is not there, and nothing may be forgotten for it.
        """
        if self._recorder.job.checkpoints and not await asyncio.to_thread(self._folder.is_dir):
            raise CheckpointCorruptError(
                f"The checkpoints of {self._recorder.job.id} are not on the volume: {self._folder}.",
                "Is the volume mounted? If they were deleted, start a new job.",
            )
        await asyncio.to_thread(remove_leftovers, self._folder)
        found = await asyncio.to_thread(complete_checkpoints, self._folder)
        names = {path.name for path in found}
        gone = [one.step for one in self._recorder.job.checkpoints if one.folder not in names]
        if gone:
            _log.error("published checkpoints are gone", job=self._recorder.job.id, steps=gone)
            await self._recorder.unpublish(gone)
        listed = {one.folder for one in self._recorder.job.checkpoints}
        await self._adopt([path for path in found if path.name not in listed])
        await self._drop_damaged()

    async def _adopt(self, unlisted: list[Path]) -> None:
        """Publish the newest whole ones, as many as are kept, and remove the others. One that is
        older than what is published was about to be removed.
        """
        newest_step = self.newest.step if self.newest else 0
        whole: list[tuple[Path, Manifest]] = []
        for path in reversed(unlisted):
            is_wanted = len(whole) < self._recorder.job.spec.keep_checkpoints
            manifest = await self._verified(path) if is_wanted else None
            if manifest is None or manifest.step <= newest_step:
                await asyncio.to_thread(remove_checkpoint, path)
            else:
                whole.append((path, manifest))
        for path, manifest in reversed(whole):
            await self._publish(path, manifest)

    async def _drop_damaged(self) -> None:
        """Go back to the newest checkpoint that is whole: the next run goes on from it."""
        while (newest := self.newest) is not None:
            path = self._folder / newest.folder
            if await self._verified(path) is not None:
                return
            await self._recorder.unpublish([newest.step])
            await asyncio.to_thread(remove_checkpoint, path)

    async def publish(self, name: str) -> None:
        """Publish a checkpoint that the run wrote, then prune. One whose files are not those of its
        manifest, by name and size, is told about and never published.
        """
        path = self._folder / name
        is_ours = path.parent == self._folder
        manifest = await self._verified(path, with_hashes=False) if is_ours else None
        if manifest is None:
            await self._recorder.record(
                [
                    Logged(
                        text=f"Checkpoint {name} is not what was written; it is not published.",
                        is_notice=True,
                    )
                ]
            )
        else:
            await self._publish(path, manifest)

    async def _publish(self, path: Path, manifest: Manifest) -> None:
        await self._recorder.publish(
            PublishedCheckpoint(
                step=manifest.step,
                attempt=manifest.attempt,
                folder=path.name,
                size_bytes=manifest.size_bytes,
                loss=manifest.metrics.loss,
                eval_loss=manifest.metrics.eval_loss,
                stop_rate=manifest.metrics.stop_rate,
                repetition_rate=manifest.metrics.repetition_rate,
                is_final=manifest.is_final,
                created_at=manifest.created_at,
            )
        )
        await self._prune()

    async def _prune(self) -> None:
        """Keep the newest, and the best of all."""
        job = self._recorder.job
        extra = [
            one for one in job.checkpoints[: -job.spec.keep_checkpoints] if one is not job.best
        ]
        await self._recorder.unpublish([one.step for one in extra])
        for one in extra:
            await asyncio.to_thread(remove_checkpoint, self._folder / one.folder)

    async def _verified(self, path: Path, *, with_hashes: bool = True) -> Manifest | None:
        try:
            manifest = await asyncio.to_thread(verify, path, with_hashes=with_hashes)
        except CheckpointCorruptError as error:
            _log.error("damaged checkpoint", job=self._recorder.job.id, error=error.message)
            return None
        if manifest.job_id != self._recorder.job.id:
            _log.error("checkpoint of another job", path=str(path), job=manifest.job_id)
            return None
        return manifest
