"""How long a run may take to save and end, from what its job's runs were seen to take.

A run that is asked to stop finishes the step that is under way, makes one more (in which all ranks
learn of the request), ends the checkpoint that it may be writing, and writes its last one. Knows
nothing of launchers or of the store: what was seen stands in the events of the job's runs, so a worker
that restarts knows it too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from corral.run import CheckpointWritten, LineTail, RunEvent, StepDone, parse_events
from corral.volume import RunFolder

# One of each may be under way when the request comes.
_SAVES, _STEPS = 2, 2
# Until every rank has the signal, and until all have ended.
_MARGIN_SECONDS = 10.0
# Above that, something hangs. A longer floor is the operator's own decision.
MOST_SECONDS = 1800.0


@dataclass(frozen=True)
class Seen:
    """The longest save and the longest step (with its evaluation) so far, in seconds.

    `last` is the time of the run's event before, from which the next one's step is counted.
    """

    save: float = 0.0
    step: float = 0.0
    last: float | None = None

    def then(self, event: RunEvent) -> Seen:
        """With the next event of the same run."""
        save, step = self.save, self.step
        if isinstance(event, CheckpointWritten):
            save = max(save, event.seconds)
        elif isinstance(event, StepDone) and self.last is not None:
            step = max(step, event.time - self.last)
        return Seen(save, step, event.time)

    def next_run(self) -> Seen:
        """What was seen, before the first event of another run."""
        return replace(self, last=None)


def grace_seconds(floor: float, seen: Seen) -> float:
    """Seconds that a run may take to save and end: what it should need, and `floor` at least.

    Before the first save that is the floor. An estimate from the model's size would need the speed
    of the volume, which differs a hundredfold; whoever stops a run can still give it more time.
    """
    if not seen.save:
        return floor
    needed = _SAVES * seen.save + _STEPS * seen.step + _MARGIN_SECONDS
    return max(floor, min(MOST_SECONDS, needed))


def seen_in(runs: Iterable[RunFolder]) -> Seen:
    """What the events of some runs show. Reads all of them."""
    seen = Seen()
    for run in runs:
        seen = seen.next_run()
        tail = LineTail(run.events)
        while lines := tail.new_lines():
            for event in parse_events(lines):
                seen = seen.then(event)
    return seen
