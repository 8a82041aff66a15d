"""/v1/models: base models and checkpoints, listed, looked at and removed.

Knows nothing of files; the services remove them.
"""

from __future__ import annotations

from contextlib import aclosing

from fastapi import APIRouter

from corral.errors import ConflictError
from corral.gateway.dependencies import ClientOf
from corral.gateway.errors import RESPONSES
from corral.gateway.paging import ListOf
from corral.gateway.schemas.base import Deleted
from corral.gateway.schemas.models import ModelDetails, ModelObject
from corral.names import ModelName
from corral.v1 import inference_pb2 as pb

router = APIRouter(prefix="/v1/models", tags=["models"], responses=RESPONSES)


@router.get("")
async def list_models(client: ClientOf) -> ListOf[ModelObject]:
    """Base models by name, then checkpoints, the newest first."""
    async with aclosing(client.models()) as models:
        return ListOf(data=[model_object(model) async for model in models])


# A base model's name may hold slashes: Qwen/Qwen3-0.6B.
@router.get("/{model:path}")
async def get_model(model: str, client: ClientOf) -> ModelObject:
    """A model by its name; a job's newest checkpoint by the name without a step."""
    return model_object(await client.get_model(model))


@router.delete("/{model:path}")
async def delete_model(model: str, client: ClientOf) -> Deleted:
    """Remove an imported base model; or a fine-tuned one: its job with every checkpoint and log."""
    name = ModelName.parse(model)
    if name is None:
        await client.delete_base_model(model)
    elif name.step is not None:
        raise ConflictError(
            f"{model} is one checkpoint of {name.job}; they go together.",
            f"Delete {ModelName(name.base, name.suffix, name.job)}.",
        )
    else:
        # Raises ModelNotFoundError where the name's other parts are not the job's.
        await client.get_model(model)
        await client.delete_job(name.job)
    return Deleted(id=model, object="model")


def model_object(model: pb.Model) -> ModelObject:
    """A model as OpenAI's clients see it."""
    return ModelObject(
        id=model.name,
        created=model.created_at.seconds,
        corral=ModelDetails(
            is_base=model.is_base,
            is_loaded=model.is_loaded,
            size_bytes=model.size_bytes,
            base_model=model.base_model or None,
            job_id=model.job_id or None,
            step=model.step if not model.is_base else None,
            template=model.template or None,
        ),
    )
