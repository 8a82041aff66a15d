"""LoRA (Hu et al. 2021) by peft: small trained matrices beside frozen linear layers.

The frozen weights are held in the type that is computed in; the adapters are float32, as all trained
weights are. Adapters are put into the model in place, so its forward pass and its sharding are those
of full fine-tuning. Knows nothing of steps, ranks or folders' commits.

The embedding and the head stay frozen, so a template that needs new tokens is refused, see
corral.data.vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from corral.checkpoints.manifest import read_manifest, weights_hash
from corral.errors import CheckpointCorruptError, SpecError
from corral.spec import TrainingSpec
from corral.training.model import load_trainable

ADAPTER_FOLDER = "adapter"
ADAPTER_WEIGHTS = f"{ADAPTER_FOLDER}/adapter_model.safetensors"
ADAPTER_CONFIG = f"{ADAPTER_FOLDER}/adapter_config.json"
# What peft calls an adapter that nobody named, and what its files prefix every name with.
_ADAPTER = "default"
_PEFT_PREFIX = "base_model.model."
_ADAPTER_PARTS = (f".lora_A.{_ADAPTER}.", f".lora_B.{_ADAPTER}.")


@dataclass(frozen=True)
class AdaptedLayer:
    """A linear layer's adapter: weight + scale * up @ down. `down`: [rank, in], `up`: [out, rank];
    `is_transposed` where the weight is [in, out], as in GPT-2.
    """

    down: nn.Parameter
    up: nn.Parameter
    scale: float
    is_transposed: bool

    def merger(
        self, down: Tensor, up: Tensor, keep: Callable[[str, Tensor], Tensor], name: str
    ) -> Callable[[Tensor], Tensor]:
        """A function from the frozen weight to the merged one, float32 on the CPU, with these
        values of the adapter, which are kept under the layer's name.
        """
        kept_down, kept_up = keep(f"down.{name}", down), keep(f"up.{name}", up)
        return partial(_merged, kept_down, kept_up, self.scale, self.is_transposed)


def _merged(down: Tensor, up: Tensor, scale: float, is_transposed: bool, weight: Tensor) -> Tensor:
    added = (up.cpu() @ down.cpu()) * scale
    return weight.cpu().float() + (added.T if is_transposed else added)


def load_with_adapters(
    spec: TrainingSpec, base: Path, vocabulary: int, dtype: torch.dtype, resume: Path | None
) -> tuple[nn.Module, LoraConfig]:
    """The base model in `dtype`, frozen, with adapters: new ones, or those of the checkpoint.

    Raises ModelUnsupportedError and SpecError, see `load_trainable` and `add_adapters`;
    CheckpointCorruptError where the checkpoint's adapter can't be read or belongs to another base.
    """
    model = load_trainable(base, vocabulary, dtype)
    config = add_adapters(model, spec)
    if resume is not None:
        load_adapters(model, resume)
        _check_base(resume, base)
    return model, config


def _check_base(checkpoint: Path, base: Path) -> None:
    entry = read_manifest(checkpoint).adapter
    if entry is None or entry.base_sha256 != weights_hash(base):
        raise CheckpointCorruptError(
            f"The adapter in {checkpoint} was trained on other weights than those in {base}.",
            "Give the base model its old weights back, or start a new job.",
        )


def add_adapters(model: nn.Module, spec: TrainingSpec) -> LoraConfig:
    """Freeze the model and put adapters beside its linear layers, in place.

    Their values come from torch's random generator; a new adapter changes nothing, since one of its
    two matrices is zero. Raises SpecError where lora_targets names a layer that is not there.
    """
    config = lora_config(model, spec)
    inject_adapter_in_model(config, model)
    for _, module in _lora_layers(model):
        # peft gives them the base's type. Drawn again, so that they aren't rounded to it.
        module.lora_A.float()
        module.lora_B.float()
        module.reset_lora_parameters(_ADAPTER, init_lora_weights=True)
    model.train()
    return config


def lora_config(model: Any, spec: TrainingSpec) -> LoraConfig:
    """The spec in peft's words. Raises SpecError, see `add_adapters`."""
    linear = linear_layers(model)
    known = sorted({name.rpartition(".")[2] for name in linear})
    targets = [name.strip() for name in (spec.lora_targets or "").split(",") if name.strip()]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            raise SpecError(
                f"lora_targets: this model has no linear layer {target!r}.",
                f"It has {', '.join(known)}.",
            )
    # peft declares an int, and takes any number.
    alpha: Any = spec.lora_alpha
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.lora_rank,
        lora_alpha=alpha,
        lora_dropout=spec.lora_dropout,
        target_modules=sorted(targets or known),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in linear.values()),
        base_model_name_or_path=spec.model,
    )


def linear_layers(model: Any) -> dict[str, nn.Module]:
    """The decoder's linear layers by name: every one but the head."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    }


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLayer]:
    """The adapters, by the name of the frozen weight that each belongs to; empty without LoRA."""
    return {
        f"{name}.base_layer.weight": AdaptedLayer(
            module.lora_A[_ADAPTER].weight,
            module.lora_B[_ADAPTER].weight,
            module.scaling[_ADAPTER],
            module.fan_in_fan_out,
        )
        for name, module in _lora_layers(model)
    }


def _lora_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """Any: peft's class declares little of what its layers have."""
    return [(name, each) for name, each in model.named_modules() if isinstance(each, LoraLayer)]


def is_adapter(name: str) -> bool:
    """Whether a parameter of that name belongs to an adapter."""
    return any(part in name for part in _ADAPTER_PARTS)


def hugging_face_name(name: str) -> str:
    """A base parameter's name in the plain model."""
    return name.replace(".base_layer.", ".")


def adapter_name(name: str) -> str:
    """An adapter parameter's name in peft's file."""
    return _PEFT_PREFIX + name.replace(f".{_ADAPTER}.", ".")


def adapter_config(config: LoraConfig) -> bytes:
    """adapter_config.json, as peft reads it."""
    plain: Any = config
    fields = plain.to_dict() | {"inference_mode": True}
    return (json.dumps(fields, indent=2, sort_keys=True, default=sorted) + "\n").encode()


def load_adapters(model: nn.Module, checkpoint: Path) -> None:
    """Fill the adapters from a checkpoint's folder.

    Raises CheckpointCorruptError where the file is missing or does not fit them.
    """
    path = checkpoint / ADAPTER_WEIGHTS
    try:
        stored = load_file(path)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if is_adapter(name):
                    parameter.copy_(stored[adapter_name(name)])
    # safetensors' own error derives from Exception.
    except Exception as error:
        raise CheckpointCorruptError(f"The adapter in {path} can't be read: {error}.") from error
