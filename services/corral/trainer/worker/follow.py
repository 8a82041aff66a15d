"""Reads what a run writes into its folder and tells the store, in order.

Looks at the files again and again: they lie on the volume, which tells nobody of changes. Knows
nothing of how the run was started or is stopped.
"""

from __future__ import annotations

import asyncio

from corral.formatting import duration
from corral.jobs.records import Evaluated, EventBody, Job, Logged, Measured, Progress
from corral.run import (
    CheckpointWritten,
    Ended,
    EvaluationDone,
    LineTail,
    Preparing,
    RunEvent,
    Started,
    StepDone,
    parse_events,
)
from corral.trainer.worker.grace import Seen
from corral.trainer.worker.loglines import clean_lines
from corral.trainer.worker.recorder import Recorder
from corral.trainer.worker.shelf import Shelf
from corral.volume import RunFolder

LOG_LINES_AT_ONCE = 10_000
EVENTS_AT_ONCE = 200


class Follower:
    """One run's events and log, from their beginning. `ended` is its last word, once it said it;
    `seen` is how long its job's runs took to step and to save, this one included.
    """

    def __init__(self, folder: RunFolder, recorder: Recorder, shelf: Shelf, seen: Seen) -> None:
        self._events = LineTail(folder.events)
        self._log = LineTail(folder.log)
        self._recorder = recorder
        self._shelf = shelf
        self.seen = seen.next_run()
        self.ended: Ended | None = None
        # What the job has cost so far, for its progress; None where nobody bills.
        self.cost: float | None = None
        self._told_step = self._told_checkpoint = 0

    def go_on_after(self, job: Job) -> None:
        """Leave out what another worker has told of this run before it died."""
        self._told_step = job.progress.step if job.progress else 0
        self._told_checkpoint = job.checkpoints[-1].step if job.checkpoints else 0
        self._log.skip_to_end()

    async def catch_up(self, *, with_log: bool = True) -> None:
        """Tell all that is new since the last call, the log's lines only if asked to: torchrun
        answers a wish to stop with tracebacks, which would look like a failure.
        """
        while await self._one_batch(with_log):
            pass

    async def _one_batch(self, with_log: bool) -> bool:
        """Tell some new lines of each file. False when there were none."""
        logged = await asyncio.to_thread(self._log.new_lines, LOG_LINES_AT_ONCE)
        events = await asyncio.to_thread(self._events.new_lines, EVENTS_AT_ONCE)
        bodies: list[EventBody] = [Logged(text=line) for line in clean_lines(logged) if with_log]
        for event in parse_events(events):
            self.seen = self.seen.then(event)
            if self._was_told(event):
                continue
            bodies.extend(_bodies_of(event, self.cost))
            if isinstance(event, CheckpointWritten):
                # The steps that led to a checkpoint come before it.
                await self._recorder.record(bodies)
                bodies = []
                await self._shelf.publish(event.folder)
            elif isinstance(event, Ended):
                self.ended = event
        await self._recorder.record(bodies)
        return bool(logged or events)

    def _was_told(self, event: RunEvent) -> bool:
        if isinstance(event, CheckpointWritten):
            return event.step <= self._told_checkpoint
        if isinstance(event, (StepDone, EvaluationDone)):
            return event.step <= self._told_step
        return isinstance(event, Started) and self._told_step > 0


async def tell_steps(folder: RunFolder, recorder: Recorder) -> None:
    """Tell the steps and evaluations of a run that has ended which are newer than what the job's
    record shows.
    """
    tail = LineTail(folder.events)
    told = recorder.job.progress.step if recorder.job.progress else 0
    while lines := await asyncio.to_thread(tail.new_lines, EVENTS_AT_ONCE):
        events = (e for e in parse_events(lines) if isinstance(e, (StepDone, EvaluationDone)))
        bodies = [_bodies_of(event, None) for event in events if event.step > told]
        await recorder.record([body for some in bodies for body in some])


def _bodies_of(event: RunEvent, cost: float | None) -> list[EventBody]:
    if isinstance(event, StepDone):
        return [_measured(event, cost)]
    if isinstance(event, EvaluationDone):
        return [Evaluated(**event.model_dump(exclude={"kind", "time"}))]
    if isinstance(event, Preparing):
        return [Logged(text=_preparing(event))]
    if isinstance(event, Started):
        return [Logged(text=_beginning(event))]
    return []


def _measured(event: StepDone, cost: float | None = None) -> Measured:
    return Measured(
        progress=Progress(
            step=event.step,
            total_steps=event.total_steps,
            epoch=event.epoch,
            loss=event.loss,
            tokens_per_second=event.tokens_per_second,
            time_left=event.time_left,
            eval_loss=event.eval_loss,
            stop_rate=event.stop_rate,
            repetition_rate=event.repetition_rate,
            answer_tokens=event.answer_tokens,
            cost=cost,
        ),
        learning_rate=event.learning_rate,
        gradient_norm=event.gradient_norm,
    )


def _preparing(event: Preparing) -> str:
    rows = f"{event.rows:,} of about {event.total_rows:,} rows"
    return f"Tokenized {rows}, about {duration(event.time_left)} left."


def _beginning(event: Started) -> str:
    resumed = f", going on after step {event.resumed_step}" if event.resumed_step else ""
    processes = "process" if event.world_size == 1 else "processes"
    return (
        f"Training {event.parameters / 1e6:.1f}M parameters on {event.examples} examples:"
        f" {event.total_steps} steps of {event.effective_batch_size} examples,"
        f" {event.world_size} {processes} on {event.device}, {event.precision}{resumed}."
    )
