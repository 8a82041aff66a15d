"""A checkpoint of the run: a plain Hugging Face folder, the training state, the manifest last.

Training stands still only while weights and moments are copied, see corral.training.snapshot. A
thread of each rank then writes, hashes and fsyncs its files beside the steps that follow. At every
step's end, while a checkpoint is under way, the ranks tell each other how far they are: once all have
written, the main rank's thread commits; once that is done, the checkpoint counts. So no rank ever
waits for another's disk, and a run that is killed goes on from the last checkpoint that counted.

Knows nothing of what the steps in between do.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from corral.checkpoints.folders import CheckpointWriter
from corral.checkpoints.manifest import Metrics
from corral.data.tokenizing import FittedTokenizer
from corral.errors import CorralError, StorageFailedError, StorageFullError
from corral.run import CheckpointWritten, now
from corral.training.background import lower_priority
from corral.training.checkpoint_files import CheckpointFiles, Identity
from corral.training.parallel import Ranks
from corral.training.snapshot import HostBuffers, as_it_is
from corral.training.state import RunState


@dataclass
class _Saving:
    """The checkpoint that is under way: this rank's part, then the main rank's commit."""

    files: CheckpointFiles
    writer: CheckpointWriter
    # What is waited for now.
    task: Future[Any]
    thread: ThreadPoolExecutor
    began: float
    stalled: float
    is_committing: bool = False

    @property
    def error(self) -> BaseException | None:
        return self.task.exception() if self.task.done() else None

    @property
    def is_done(self) -> bool:
        return self.task.done() and self.error is None


class Saver:
    """Writes the checkpoints of one run below `folder`, one at a time.

    `save`, `poll` and `finish` are collectives: every rank calls them, at the same steps. They
    raise StorageFullError or StorageFailedError on every rank when any of them could not write;
    what was written of that checkpoint is removed then, those before it stay.
    """

    def __init__(self, folder: Path, identity: Identity, ranks: Ranks) -> None:
        self._folder = folder
        self._identity = identity
        self._ranks = ranks
        self._buffers = HostBuffers(ranks.device)
        self._beside = ThreadPoolExecutor(1, "corral-save", initializer=lower_priority)
        # What training waits for must not wait for every other process of the machine.
        self._at_once = ThreadPoolExecutor(1, "corral-save-now")
        self._saving: _Saving | None = None

    @property
    def identity(self) -> Identity:
        """What all of them have in common."""
        return self._identity

    @property
    def tokenizer(self) -> FittedTokenizer:
        """The one that is saved with the weights."""
        return self._identity.tokenizer

    def save(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer,
        state: RunState,
        total_steps: int,
        metrics: Metrics,
        *,
        wait_for_it: bool,
    ) -> list[CheckpointWritten]:
        """Begin a checkpoint, once the one before is complete; with `wait_for_it`, end it too.

        Returns what was completed meanwhile.
        """
        began = time.monotonic()
        written = self.finish()
        writer = CheckpointWriter(self._folder, state.step, self._identity.run.attempt)
        self._begin(writer, state.step)
        # Nothing changes while it is waited for, so nothing has to be copied.
        keep = as_it_is if wait_for_it else self._buffers.copy
        files = CheckpointFiles.take(
            self._identity, self._ranks, model, optimizer, state, total_steps, metrics, keep
        )
        self._buffers.wait()
        thread = self._at_once if wait_for_it else self._beside
        task = thread.submit(files.write, writer)
        stalled = time.monotonic() - began
        self._saving = _Saving(files, writer, task, thread, began, stalled)
        return written + (self.finish() if wait_for_it else [])

    def poll(self) -> list[CheckpointWritten]:
        """Take the checkpoint under way a step further, without waiting for any disk. Returns it
        once it counts.
        """
        saving = self._saving
        if saving is None:
            return []
        began = time.monotonic()
        ready = self._agree(saving.is_done, saving.error, saving)
        if ready and not saving.is_committing:
            saving.is_committing = True
            if self._ranks.is_main:
                saving.task = saving.thread.submit(saving.writer.commit, saving.files.manifest)
            ready = False
        if not ready:
            saving.stalled += time.monotonic() - began
            return []
        self._saving = None
        return [
            CheckpointWritten(
                time=now(),
                step=saving.files.state.step,
                folder=saving.writer.name,
                seconds=time.monotonic() - saving.began,
                stall_seconds=saving.stalled + time.monotonic() - began,
            )
        ]

    def finish(self) -> list[CheckpointWritten]:
        """Wait for the checkpoint under way, if there is one, and return it."""
        written: list[CheckpointWritten] = []
        while self._saving is not None:
            began = time.monotonic()
            wait([self._saving.task])
            self._saving.stalled += time.monotonic() - began
            written += self.poll()
        return written

    def _begin(self, writer: CheckpointWriter, step: int) -> None:
        error: CorralError | None = None
        if self._ranks.is_main:
            try:
                writer.begin()
            except CorralError as found:
                error = found
        # Also the barrier before which no other rank may write into the folder.
        self._raise_together(error, step)

    def _agree(self, is_done: bool, error: BaseException | None, saving: _Saving) -> bool:
        """Whether every rank is done with its task. Where one has failed, every rank waits for its
        own, the folder is removed and all raise.
        """
        done, failed = self._ranks.total(float(is_done), float(error is not None))
        if failed:
            error = saving.task.exception()
            self._saving = None
            self._ranks.barrier()
            if self._ranks.is_main:
                saving.writer.abandon()
            self._raise_together(error, saving.files.state.step)
        return done == self._ranks.world_size

    def _raise_together(self, error: BaseException | None, step: int) -> None:
        """Raise on every rank what happened on any of them."""
        is_full = isinstance(error, StorageFullError)
        full, failed = self._ranks.total(float(is_full), float(error is not None))
        if error is not None and not isinstance(error, (StorageFullError, StorageFailedError)):
            raise error
        if full:
            raise StorageFullError(
                f"No space is left on the volume for the checkpoint of step {step}.",
                "The last complete checkpoint is kept. Free space, or keep fewer checkpoints.",
            )
        if failed:
            why = error.message if isinstance(error, CorralError) else "Another rank can't write."
            raise StorageFailedError(
                f"The checkpoint of step {step} could not be written. {why}",
                "The last complete checkpoint is kept. Look at the disk and at the system's log.",
            )
