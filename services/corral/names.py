"""Names of jobs and of fine-tuned models, in OpenAI's form.

`ft:<base>:<suffix>:<job>` is a job's newest checkpoint, `…:ckpt-step-<n>` or `…@<n>` one step of it,
`…@best` the best by its evaluations; `<job>`, `<job>@<n>` and `<job>@best` are short for them. A base
may hold slashes (a hub id) but no colon; the suffix may be empty.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Literal

from corral.errors import InvalidRequestError

ID_PATTERN = re.compile(r"^[a-z0-9][a-z0-9-]{0,62}$")
DATASET_ID_PATTERN = re.compile(r"^[0-9a-f]{64}$")
BEST: Literal["best"] = "best"
_CHOICE = re.compile(r"^(?P<plain>.*)@(?P<choice>best|[0-9]{1,18})$", re.DOTALL)
_MODEL_NAME = re.compile(
    r"^ft:(?P<base>[^:]+):(?P<suffix>[^:]*):(?P<job>[a-z0-9][a-z0-9-]{0,62})(:ckpt-step-(?P<step>\d+))?$"
)


def new_job_id() -> str:
    """A fresh id of 60 random bits: two never meet."""
    return f"job-{secrets.randbits(60):015x}"


def check_job_id(job_id: str) -> str:
    """The id itself. Raises InvalidRequestError where it could not be one, so that an id can be
    used as a file name without a second thought.
    """
    if not ID_PATTERN.match(job_id):
        raise InvalidRequestError(
            f"{job_id!r:.80} is not a job id.", "Job ids look like job-1f2e3d4c5b6a798."
        )
    return job_id


def check_dataset_id(dataset_id: str) -> str:
    """The id itself. Raises InvalidRequestError where it is not the sha256 of anything."""
    if not DATASET_ID_PATTERN.match(dataset_id):
        raise InvalidRequestError(
            f"{dataset_id!r:.80} is not a data set id.", "It is 64 hexadecimal digits."
        )
    return dataset_id


def split_choice(name: str) -> tuple[str, int | Literal["best"] | None]:
    """The name of a job or a model, and which checkpoint stands behind an @: a step, "best", or None
    for the newest.
    """
    found = _CHOICE.match(name)
    if found is None:
        return name, None
    return found["plain"], BEST if found["choice"] == BEST else int(found["choice"])


@dataclass(frozen=True)
class ModelName:
    """The name of a fine-tuned model; `step` None means the newest checkpoint."""

    base: str
    suffix: str
    job: str
    step: int | None = None

    def __str__(self) -> str:
        name = f"ft:{self.base}:{self.suffix}:{self.job}"
        return name if self.step is None else f"{name}:ckpt-step-{self.step}"

    def at(self, step: int) -> ModelName:
        """The name of one step of the same job."""
        return replace(self, step=step)

    @classmethod
    def of_job(cls, base: str, suffix: str | None, job: str) -> ModelName:
        """The name of a job's newest checkpoint. A folder as base is named by its last part."""
        is_folder = base.startswith(("/", "./", "../", "~")) or "\\" in base
        short = (PurePath(base).name or "model") if is_folder else base
        return cls(short.replace(":", "-"), suffix or "", job)

    @classmethod
    def parse(cls, name: str) -> ModelName | None:
        """The parts of a fine-tuned model's name, or None where it is a base model's."""
        found = _MODEL_NAME.match(name)
        if found is None:
            return None
        step = found["step"]
        return cls(found["base"], found["suffix"], found["job"], int(step) if step else None)
