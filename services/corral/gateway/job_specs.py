"""What a client of OpenAI's asks of a job, as a training spec.

Values in, values out: knows nothing of calls, or of how jobs are shown.
"""

from __future__ import annotations

from typing import Any

from corral.errors import SpecError
from corral.gateway.schemas.fine_tuning import JobRequest
from corral.spec import TrainingSpec, parse_spec


def spec_of(request: JobRequest) -> dict[str, Any]:
    """The fields of the training spec that the request sets.

    Raises SpecError for values that no spec may have.
    """
    fields: dict[str, Any] = {"model": request.model, **(request.model_extra or {})}
    if request.suffix is not None:
        fields["suffix"] = request.suffix
    if request.seed is not None:
        fields["seed"] = request.seed
    asked = request.asked
    if asked.n_epochs != "auto":
        fields["epochs"] = asked.n_epochs
    if asked.learning_rate_multiplier != "auto":
        _refuse_both(fields, "learning_rate_multiplier")
        fields["learning_rate_multiplier"] = asked.learning_rate_multiplier
    if asked.batch_size != "auto":
        _refuse_both(fields, "gradient_accumulation_steps")
        fields |= _batches(asked.batch_size, parse_spec(fields), is_free="batch_size" not in fields)
    spec = parse_spec(fields)
    return spec.model_dump(include=set(fields), exclude_none=True)


def _refuse_both(fields: dict[str, Any], name: str) -> None:
    if name in fields:
        raise SpecError(f"{name}: not together with hyperparameters that set it too.")


def _batches(examples: int, spec: TrainingSpec, *, is_free: bool) -> dict[str, int]:
    """So many examples per optimizer step, in forward passes no larger than the spec's own."""
    for_each, rest = divmod(examples, spec.processes)
    sizes = range(spec.batch_size, 0, -1) if is_free else (spec.batch_size,)
    size = next((one for one in sizes if for_each and for_each % one == 0), 0)
    if rest or not size:
        raise SpecError(
            f"hyperparameters.batch_size: {examples} can't be spread evenly over"
            f" {spec.processes} processes in forward passes of {spec.batch_size}.",
            "It is processes x batch_size x gradient_accumulation_steps.",
        )
    return {"batch_size": size, "gradient_accumulation_steps": for_each // size}
