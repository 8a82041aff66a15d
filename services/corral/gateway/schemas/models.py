"""Models as OpenAI's clients see them. Knows nothing of where they lie."""

from __future__ import annotations

from typing import Literal

from corral.gateway.schemas.base import View


class ModelDetails(View):
    """Ours, beside OpenAI's fields; those of checkpoints are null for a base model."""

    is_base: bool
    is_loaded: bool
    size_bytes: int
    base_model: str | None = None
    job_id: str | None = None
    step: int | None = None
    template: str | None = None


class ModelObject(View):
    """A base model or a checkpoint. `created` is 0 for a base model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "corral"
    corral: ModelDetails
