"""What travels between home and the container: the order, and files of JSON on the volume.

The remote volume is laid out like a Corral's own (`corral.volume`), and has at its root:

    owner.json      which call may work for the job; any other one ends itself
    status.json     what the container has to say: attempt, GPU, step, seconds, exit

Knows nothing of modal: home and the container both read this.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MOUNT = "/corral"
OWNER_NAME = "owner.json"
STATUS_NAME = "status.json"


@dataclass(frozen=True)
class Order:
    """What `run_job` is told besides the volume's content. Durations are seconds."""

    # The content of run.json.
    run: dict[str, Any]
    # New for each spawn; owner.json names the newest.
    token: str
    volume: str
    # Alternatives as Modal names them, and US dollars a second of each; none where not known.
    gpus: tuple[str, ...]
    rates: dict[str, float]
    timeout_seconds: float
    stop_seconds: float
    look_seconds: float
    max_cost: float | None = None
    # Where a base model that is a folder lies at home, and below the volume.
    model_folder: str = ""
    model_on_volume: str = ""
    # In place of torchrun's command line; the run file is added to it.
    command: tuple[str, ...] = ()

    @property
    def job(self) -> str:
        return str(self.run["job_id"])

    @property
    def attempt(self) -> int:
        return int(self.run["attempt"])

    def to_json(self) -> dict[str, Any]:
        """Plain values for `spawn`."""
        return {**asdict(self), "gpus": list(self.gpus), "command": list(self.command)}

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> Order:
        """The other way round."""
        lists = {"gpus": tuple(found["gpus"]), "command": tuple(found["command"])}
        return cls(**{**found, **lists})


@dataclass(frozen=True)
class Owner:
    """The content of owner.json. `call` is empty until Modal has said which call it is."""

    token: str
    call: str = ""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, path: Path) -> Owner | None:
        """None where there is none, or only half of one."""
        return cls.of_bytes(path.read_bytes()) if path.is_file() else None

    @classmethod
    def of_bytes(cls, content: bytes) -> Owner | None:
        with suppress(ValueError, TypeError):
            return cls(**json.loads(content))
        return None


@dataclass(frozen=True)
class Span:
    """One container that worked for the job: since when (epoch), and for how many seconds so far."""

    attempt: int
    gpu: str
    began: float
    seconds: float


@dataclass(frozen=True)
class Exit:
    """How an attempt ended; `reason` is one of the constants below, or empty: by itself."""

    exit_code: int | None
    signal: str | None
    reason: str = ""


STOPPED = "stopped"
BUDGET = "budget"
SUPERSEDED = "superseded"
FORGOTTEN = "forgotten"
TIME_UP = "time is up"


@dataclass(frozen=True)
class Status:
    """The content of status.json. `spans` are all containers of the job, the oldest first."""

    attempt: int
    token: str
    step: int = 0
    spans: tuple[Span, ...] = field(default_factory=tuple)
    exit: Exit | None = None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def of_bytes(cls, content: bytes) -> Status | None:
        """None for what is no status, a half of one say."""
        with suppress(ValueError, TypeError, KeyError):
            found = json.loads(content)
            return cls(
                attempt=int(found["attempt"]),
                token=str(found["token"]),
                step=int(found["step"]),
                spans=tuple(Span(**span) for span in found["spans"]),
                exit=Exit(**found["exit"]) if found["exit"] else None,
            )
        return None

    def begun(self, attempt: int) -> Span | None:
        """The first container of an attempt."""
        return next((span for span in self.spans if span.attempt == attempt), None)

    def seconds(self, attempt: int) -> float:
        """How long the containers of an attempt have run."""
        return sum(span.seconds for span in self.spans if span.attempt == attempt)


def cost_of(spans: Iterable[Span], rates: dict[str, float]) -> float | None:
    """US dollars; None where the price of a GPU is not known."""
    spans = list(spans)
    if any(span.gpu not in rates for span in spans):
        return None
    return sum(span.seconds * rates[span.gpu] for span in spans)
