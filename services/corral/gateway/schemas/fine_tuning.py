"""Fine-tuning jobs, their events and checkpoints, field by field as OpenAI's SDK types them.

Knows nothing of how a job is carried out.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from corral.gateway.errors import UNKNOWN, UNSUPPORTED
from corral.gateway.schemas.base import NOTHING, Body, Count, Metadata, View
from corral.spec import TrainingSpec

Auto = Literal["auto"]
# Fields of the spec that have a name of OpenAI's, and are not taken under their own.
_RENAMED = {"epochs": "hyperparameters.n_epochs"}
SPEC_FIELDS = frozenset(TrainingSpec.model_fields) - {"model", "suffix", "seed", *_RENAMED}


class HyperparametersAsked(Body):
    """What is "auto", or left out, is the server's choice."""

    n_epochs: Auto | Count = "auto"
    # Examples per optimizer step.
    batch_size: Auto | Count = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"


class SupervisedAsked(Body):
    """How to train on answers that are given."""

    hyperparameters: HyperparametersAsked = HyperparametersAsked()


class MethodAsked(Body):
    """`supervised` is what there is."""

    type: Literal["supervised"]
    supervised: SupervisedAsked = SupervisedAsked()

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_methods(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("type") in ("dpo", "reinforcement"):
            raise PydanticCustomError(
                UNSUPPORTED, "method.type: only supervised is supported", {"param": "method.type"}
            )
        return data


class JobRequest(Body):
    """A job to create. Every other field of a training spec may stand beside these, under its own name
    (`extra_body` in OpenAI's clients): template, preamble, tuning, backend, gpu, max_cost, ….
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    unsupported: ClassVar = {"integrations": NOTHING}

    model: Annotated[str, Field(min_length=1, max_length=512)]
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    metadata: Metadata | None = None
    method: MethodAsked | None = None
    # OpenAI's older place for them.
    hyperparameters: HyperparametersAsked | None = None

    @model_validator(mode="after")
    def _refuse_unknown(self) -> JobRequest:
        for name in self.model_extra or {}:
            if name in _RENAMED:
                raise PydanticCustomError(
                    UNSUPPORTED, "{param}: set {other}", {"param": name, "other": _RENAMED[name]}
                )
            if name not in SPEC_FIELDS:
                raise PydanticCustomError(
                    UNKNOWN, "Unrecognized request argument: {param}", {"param": name}
                )
        if self.method is not None and self.hyperparameters is not None:
            raise PydanticCustomError(
                "invalid_value", "hyperparameters: not together with method", {"param": "method"}
            )
        return self

    @property
    def asked(self) -> HyperparametersAsked:
        """The hyperparameters, wherever they stand."""
        if self.method is not None:
            return self.method.supervised.hyperparameters
        return self.hyperparameters or HyperparametersAsked()


# ---------------------------------------------------------------- views


class JobError(View):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class Hyperparameters(View):
    """As the job runs with them."""

    n_epochs: Auto | int
    batch_size: Auto | int
    learning_rate_multiplier: Auto | float


class Supervised(View):
    """The method's own settings."""

    hyperparameters: Hyperparameters


class Method(View):
    """How the job trains."""

    type: Literal["supervised"] = "supervised"
    supervised: Supervised


class JobDetails(View):
    """Ours, beside OpenAI's fields."""

    # "QUEUED", "STARTING", "RUNNING", "PAUSING", …: Corral's own states are finer.
    state: str
    attempt: int
    # As the server completed it.
    spec: dict[str, Any]
    progress: dict[str, Any] | None
    # US dollars; null where nobody bills.
    cost: float | None
    # The last lines of a run that failed.
    log_tail: list[str]


Status = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]


class FineTuningJob(View):
    """A job. Times are seconds since the epoch."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None = None
    estimated_finish: int | None = None
    status: Status
    error: JobError | None = None
    model: str
    fine_tuned_model: str | None = None
    training_file: str
    validation_file: str | None = None
    result_files: list[str] = Field(default_factory=list)
    # Not counted.
    trained_tokens: int | None = None
    seed: int
    hyperparameters: Hyperparameters
    method: Method
    metadata: dict[str, str] = Field(default_factory=dict)
    integrations: list[dict[str, Any]] = Field(default_factory=list)
    organization_id: str = "corral"
    corral: JobDetails


class JobEvent(View):
    """Something that happened."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None = None


class CheckpointMetrics(View):
    """Losses are nats per label token."""

    step: int
    train_loss: float | None = None
    full_valid_loss: float | None = None


class JobCheckpoint(View):
    """A checkpoint that can be chatted with."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics
