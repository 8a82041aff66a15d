"""Reads what a run writes into its folder and tells the store, in order.

Looks at the files again and again: they lie on the volume, which tells nobody of changes. Knows
nothing of how the run was started or is stopped.
"""

from __future__ import annotations

import asyncio

from corral.jobs.records import EventBody, Logged, Measured, Progress
from corral.run import (
    CheckpointWritten,
    Ended,
    LineTail,
    RunEvent,
    Started,
    StepDone,
    parse_events,
)
from corral.trainer.worker.loglines import clean_lines
from corral.trainer.worker.recorder import Recorder
from corral.trainer.worker.shelf import Shelf
from corral.volume import RunFolder

LOG_LINES_AT_ONCE = 10_000
EVENTS_AT_ONCE = 200


class Follower:
    """One run's events and log, from their beginning. `ended` is its last word, once it said it."""

    def __init__(self, folder: RunFolder, recorder: Recorder, shelf: Shelf) -> None:
        self._events = LineTail(folder.events)
        self._log = LineTail(folder.log)
        self._recorder = recorder
        self._shelf = shelf
        self.ended: Ended | None = None

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
            bodies.extend(_bodies_of(event))
            if isinstance(event, CheckpointWritten):
                # The steps that led to a checkpoint come before it.
                await self._recorder.record(bodies)
                bodies = []
                await self._shelf.publish(event.folder)
            elif isinstance(event, Ended):
                self.ended = event
        await self._recorder.record(bodies)
        return bool(logged or events)


async def tell_steps(folder: RunFolder, recorder: Recorder) -> None:
    """Tell the steps of a run that has ended which are newer than what the job's record shows."""
    tail = LineTail(folder.events)
    while lines := await asyncio.to_thread(tail.new_lines, EVENTS_AT_ONCE):
        told = recorder.job.progress.step if recorder.job.progress else 0
        steps = [event for event in parse_events(lines) if isinstance(event, StepDone)]
        await recorder.record([_measured(event) for event in steps if event.step > told])


def _bodies_of(event: RunEvent) -> list[EventBody]:
    if isinstance(event, StepDone):
        return [_measured(event)]
    if isinstance(event, Started):
        return [Logged(text=_beginning(event))]
    return []


def _measured(event: StepDone) -> Measured:
    return Measured(
        progress=Progress(
            step=event.step,
            total_steps=event.total_steps,
            epoch=event.epoch,
            loss=event.loss,
            tokens_per_second=event.tokens_per_second,
            time_left=event.time_left,
            eval_loss=event.eval_loss,
        ),
        learning_rate=event.learning_rate,
        gradient_norm=event.gradient_norm,
    )


def _beginning(event: Started) -> str:
    resumed = f", going on after step {event.resumed_step}" if event.resumed_step else ""
    processes = "process" if event.world_size == 1 else "processes"
    return (
        f"Training {event.parameters / 1e6:.1f}M parameters on {event.examples} examples:"
        f" {event.total_steps} steps of {event.effective_batch_size} examples,"
        f" {event.world_size} {processes} on {event.device}, {event.precision}{resumed}."
    )
