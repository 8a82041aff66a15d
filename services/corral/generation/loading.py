"""A folder on disk as a model that can answer: weights, tokenizer, template and end tokens together.

A folder with a manifest is a checkpoint: its hashes are verified and its template is the one that it
was trained with. A folder without is a base model: it keeps its own chat template where it has one,
else it gets `alpaca`. Safetensors only, no code from the folder. Knows nothing of which models there
are or how many fit into memory.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from corral.bases import context_length
from corral.checkpoints.manifest import MANIFEST_NAME, verify
from corral.data.model_files import read_json
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import TextTokenizer
from corral.devices import compute_dtype
from corral.errors import CheckpointCorruptError
from corral.networks import load_network, unloadable


@dataclass(frozen=True)
class LoadedModel:
    """Everything that an answer needs. `size_bytes` counts weights and buffers, tied ones once."""

    # A transformers model in evaluation mode; its class differs from architecture to architecture.
    network: Any
    device: torch.device
    tokenizer: TextTokenizer
    template: PromptTemplate
    # Tokens of prompt and answer together.
    context_length: int
    end_ids: frozenset[int]
    size_bytes: int


def load_model(folder: Path, *, precision: str = "auto") -> LoadedModel:
    """Load a checkpoint or a base model onto the GPU, or the CPU where there is none.

    `precision` is "auto" (bf16 where the device computes it natively), "bf16" or "fp32". Not safe
    to call in two threads at once: transformers sets torch's default type meanwhile.

    Raises CheckpointCorruptError where a checkpoint is not what was written, ModelUnsupportedError
    where a folder is incomplete or of an unknown architecture.
    """
    manifest = verify(folder, with_state=False) if (folder / MANIFEST_NAME).exists() else None
    tokenizer = TextTokenizer.from_folder(folder)
    if manifest is not None and tokenizer.sha256 != manifest.tokenizer_sha256:
        raise CheckpointCorruptError(f"{folder}: the tokenizer is not the one it was trained with.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = load_network(folder, compute_dtype(precision, device)).to(device).eval()
    _check_vocabulary(folder, network, tokenizer)
    template = (
        PromptTemplate.of_base(folder)
        if manifest is None
        else PromptTemplate.from_manifest(manifest.template)
    )
    return LoadedModel(
        network=network,
        device=device,
        tokenizer=tokenizer,
        template=template,
        context_length=context_length(folder),
        end_ids=_end_ids(folder, tokenizer, template),
        size_bytes=_size_bytes(network),
    )


def estimate_bytes(folder: Path, *, precision: str = "auto") -> int:
    """Bytes that the weights of a folder will take once loaded, read from the files' headers.

    Raises ModelUnsupportedError where there are no weights in safetensors.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise unloadable(folder, "there is no .safetensors file in it")
    elements = sum(_element_count(file) for file in files)
    return elements * compute_dtype(precision, device).itemsize


def _element_count(file: Path) -> int:
    """Elements of all tensors. A file begins with the length of a JSON header of shapes."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > file.stat().st_size:
                raise ValueError("its header is cut off")
            header = json.loads(stream.read(length))
        shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
        return sum(torch.Size(shape).numel() for shape in shapes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise unloadable(file.parent, f"{file.name} is not a safetensors file ({error})") from error


def _check_vocabulary(folder: Path, network: Any, tokenizer: TextTokenizer) -> None:
    rows = network.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > rows:
        raise unloadable(
            folder,
            f"its tokenizer has {tokenizer.vocab_size:,} tokens, its embedding {rows:,} rows",
        )


def _end_ids(folder: Path, tokenizer: TextTokenizer, template: PromptTemplate) -> frozenset[int]:
    """The tokenizer's end of text, what the template ends answers in, and what the model's own
    generation_config.json ends on: Llama 3 has several.
    """
    found = read_json(folder / "generation_config.json").get("eos_token_id")
    listed = found if isinstance(found, list) else [found]
    candidates = (tokenizer.eos_id, tokenizer.token_id(template.end_token), *listed)
    return frozenset(token for token in candidates if isinstance(token, int))


def _size_bytes(network: Any) -> int:
    # parameters() and buffers() name a tied tensor once.
    tensors = (*network.parameters(), *network.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
