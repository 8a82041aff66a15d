"""What a process reads from its environment: addresses, folders, intervals. Never a training default.

Every variable begins with CORRAL_; REDIS_URL is also read without, since platforms set it so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from corral.errors import InvalidRequestError

DEFAULT_TRAINER_PORT = 7470
DEFAULT_INFERENCE_PORT = 7471
DEFAULT_GATEWAY_PORT = 7472


class Settings(BaseSettings):
    """One process' settings. Durations are seconds, sizes bytes."""

    model_config = SettingsConfigDict(
        env_prefix="CORRAL_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    data: Path = Field(Path.home() / ".corral", description="The data folder (the volume).")
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        validation_alias=AliasChoices("CORRAL_REDIS_URL", "REDIS_URL", "redis_url"),
        description="redis://, rediss:// or unix:// address of the Redis that holds the jobs.",
    )
    host: str = Field("127.0.0.1", description="Address that a server binds to.")
    trainer_port: int = Field(DEFAULT_TRAINER_PORT, ge=0, le=65535)
    inference_port: int = Field(DEFAULT_INFERENCE_PORT, ge=0, le=65535)
    gateway_port: int = Field(
        DEFAULT_GATEWAY_PORT, ge=0, le=65535, description="OpenAI's API and the console."
    )
    cors_origins: str = Field(
        "",
        description="Origins of web pages that may call the gateway, separated by commas; * for any. "
        "Empty: none but its own.",
    )
    answer_seconds: float = Field(
        600.0, gt=0, description="Longest that the gateway waits for one answer to be written."
    )
    inference_address: str = Field(
        "",
        description="Where clients reach inference; empty: the trainer's host and CORRAL_INFERENCE_PORT.",
    )
    server: str = Field(
        f"127.0.0.1:{DEFAULT_TRAINER_PORT}", description="The trainer that a client talks to."
    )
    profile: str = Field(
        "",
        description="The profile of `corral login` that a command uses, where no server is named.",
    )
    reflection: bool = Field(True, description="Whether servers offer gRPC reflection.")
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of this process' Prometheus /metrics; 0: none. `corral up` serves none.",
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="How long open calls may finish after SIGTERM."
    )
    lease_seconds: float = Field(
        10.0, gt=0, description="A worker silent for longer loses its job."
    )
    stop_seconds: float = Field(
        60.0,
        gt=0,
        description="How long a run may take to save and end before it is killed, at least: one whose "
        "saves were seen to take longer gets more.",
    )
    worker_name: str = Field(
        "",
        description="Name of a worker that, restarted, at once goes on with the job that it had; no "
        "two may share one. Empty: a new name each time, and the job waits for its lease to run out.",
    )
    worker_jobs: int = Field(
        1,
        ge=1,
        description="Jobs that one worker looks after at a time. A run of the local launcher takes "
        "the whole machine; in a cluster a worker only watches.",
    )
    launcher: str = Field(
        "local", description="Where runs run that don't say so: local, kubernetes or modal."
    )
    modal_environment: str = Field(
        "", description="Modal's environment for apps and volumes; empty: the account's default."
    )
    modal_token_file: Path | None = Field(
        None,
        description="File with MODAL_TOKEN_ID=… and MODAL_TOKEN_SECRET=…; not given: the environment.",
    )
    modal_cpu: float = Field(4.0, gt=0, le=64, description="CPU cores of a container on Modal.")
    modal_memory_mib: int = Field(
        16384, ge=1024, description="MiB of memory of a container on Modal."
    )
    training_device: str = Field(
        "",
        description="What runs train on, for plans: a GPU such as A100-80GB, or cpu. Empty: this "
        "machine, where the launcher is local and torch is installed.",
    )
    kubernetes_namespace: str = Field(
        "", description="Namespace of training Jobs; empty: the pod's own, or kubeconfig's."
    )
    kubernetes_pod_template: Path = Field(
        Path("/etc/corral/train-pod.yaml"),
        description="File with the pod template of training Jobs.",
    )
    kubernetes_service: str = Field(
        "corral-training",
        description="Headless Service through which the nodes of one run find each other.",
    )
    kubernetes_gpus_per_process: int = Field(
        1, ge=0, description="GPUs that each training process gets; 0 trains on CPUs."
    )
    kubernetes_queue: str = Field(
        "", description="Kueue's LocalQueue for training Jobs; empty: none."
    )
    kubernetes_deadline_seconds: int = Field(
        0, ge=0, description="Longest that one attempt may take in the cluster; 0: no limit."
    )
    inference_memory: int = Field(
        4 * 1024**3, gt=0, description="Bytes of weights that inference keeps loaded."
    )
    inference_precision: Literal["auto", "fp32", "bf16", "int8", "int4"] = Field(
        "auto",
        description="Format of the weights to answer with; auto measures for each model which is the "
        "fastest that leaves its perplexity within 0.5 % of fp32's. GPUs: bf16 or fp32.",
    )
    inference_slots: int = Field(8, ge=1, description="Answers that are written at a time.")
    inference_waiting: int = Field(
        64, ge=0, description="Requests that may wait for a slot; more are told BUSY."
    )
    torch_threads: int | None = Field(
        None, ge=1, description="Threads that torch computes with; not given: torch's own choice."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load_settings() -> Settings:
    """The settings of this process. Raises InvalidRequestError naming the variable at fault."""
    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        variable = name if name.isupper() else f"CORRAL_{name.upper()}"
        raise InvalidRequestError(
            f"{variable}: {problem['input']!r:.80} is not allowed: {problem['msg']}.",
            "Correct the environment variable, or unset it.",
        ) from None
