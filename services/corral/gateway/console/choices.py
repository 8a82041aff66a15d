"""What can be chosen on several pages: base models, data sets, models to chat with.

Knows nothing of forms.
"""

from __future__ import annotations

from corral import formatting
from corral.client import AsyncConnection
from corral.gateway.console import words
from corral.spec import TrainingSpec
from corral.v1 import inference_pb2


async def base_models(client: AsyncConnection) -> list[str]:
    """Names of the base models that are on the servers' machine."""
    return [model.name async for model in client.models() if model.is_base]


def default_base(bases: list[str]) -> str:
    """The spec's own default where it is at hand, else a model that is."""
    default = str(TrainingSpec.model_fields["model"].default)
    return default if default in bases or not bases else bases[0]


async def dataset_choices(client: AsyncConnection) -> dict[str, str]:
    """Ids of the data sets, newest first, with what a person knows them by."""
    return {
        one.id: f"{one.filename} · {formatting.count(one.report.rows, 'row')}"
        async for one in client.datasets()
    }


def model_choices(models: list[inference_pb2.Model]) -> dict[str, str]:
    """Names of models with what a person knows them by: trained ones first."""
    trained = {m.name: _trained_title(m) for m in models if not m.is_base}
    return trained | {
        m.name: f"{words.short_base(m.name)} · base model" for m in models if m.is_base
    }


def _trained_title(model: inference_pb2.Model) -> str:
    return f"{words.model_title(model.name)} · {words.short_base(model.base_model)}"
