"""A folder on disk as a model that can answer: weights, tokenizer, template and end tokens together.

A folder with a manifest is a checkpoint: its hashes are verified and its template is the one that it
was trained with. A folder without is a base model: it keeps its own chat template where it has one,
else it gets `alpaca`. Safetensors only, no code from the folder. Knows nothing of which models there
are or how many fit into memory.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch

from corral.bases import context_length, unloadable
from corral.checkpoints.manifest import MANIFEST_NAME, verify
from corral.data.model_files import read_json
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import TextTokenizer
from corral.devices import compute_dtype
from corral.errors import CheckpointCorruptError
from corral.generation.decoders.base import Decoder
from corral.generation.decoders.precision import Precision
from corral.generation.decoders.torch_decoder import READING_COPY_BYTES
from corral.generation.sharing import Opened, Parts, open_alone

if TYPE_CHECKING:
    from corral.generation.constraints import Grammars

OpenWeights: TypeAlias = Callable[[Path, Precision, torch.device], Opened]
OpenTokenizer: TypeAlias = Callable[[Path], TextTokenizer]


# By identity: two loads of the same weights, or of others under the same name, share nothing.
@dataclass(frozen=True, eq=False)
class LoadedModel:
    """Everything that an answer needs."""

    decoder: Decoder
    precision: Precision
    tokenizer: TextTokenizer
    template: PromptTemplate
    # Tokens of prompt and answer together.
    context_length: int
    end_ids: frozenset[int]
    # Bytes of its weights; what other models share has the same key in theirs.
    parts: Parts

    @property
    def size_bytes(self) -> int:
        """Of the weights."""
        return self.decoder.size_bytes

    @cached_property
    def grammars(self) -> Grammars:
        """What holds answers to JSON schemas; made when the first is asked for."""
        # Imported here: training answers questions too, where llguidance need not be.
        from corral.generation.constraints import Grammars

        rows = max(self.decoder.vocabulary, self.tokenizer.vocab_size)
        return Grammars(self.tokenizer.definition, rows, self.end_ids)


def load_model(
    folder: Path,
    *,
    precision: str = "auto",
    open_weights: OpenWeights = open_alone,
    open_tokenizer: OpenTokenizer = TextTokenizer.from_folder,
) -> LoadedModel:
    """Load a checkpoint or a base model onto the GPU, or the CPU where there is none.

    `precision` is one of `Precision`, or "auto": bf16 where the device computes it natively, else
    fp32. A GPU computes in bf16 or fp32 only.

    Raises CheckpointCorruptError where a checkpoint is not what was written, ModelUnsupportedError
    where a folder is incomplete or of an unknown architecture.
    """
    manifest = verify(folder, with_state=False) if (folder / MANIFEST_NAME).exists() else None
    tokenizer = open_tokenizer(folder)
    if manifest is not None and tokenizer.sha256 != manifest.tokenizer_sha256:
        raise CheckpointCorruptError(f"{folder}: the tokenizer is not the one it was trained with.")
    kind = resolve_precision(precision)
    opened = open_weights(folder, kind, inference_device())
    decoder = opened.decoder
    _check_vocabulary(folder, decoder, tokenizer)
    template = (
        PromptTemplate.of_base(folder)
        if manifest is None
        else PromptTemplate.from_manifest(manifest.template)
    )
    return LoadedModel(
        decoder=decoder,
        precision=kind,
        tokenizer=tokenizer,
        template=template,
        context_length=context_length(folder),
        end_ids=_end_ids(folder, tokenizer, template),
        parts=opened.parts,
    )


def inference_device() -> torch.device:
    """The GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str) -> Precision:
    """What a setting comes to on this machine. Raises SpecError for bf16 on a GPU that lacks it."""
    device = inference_device()
    if precision in (Precision.INT8, Precision.INT4) and device.type == "cpu":
        return Precision(precision)
    wanted = precision if precision in (Precision.BF16, Precision.FP32) else "auto"
    is_float = compute_dtype(wanted, device) == torch.float32
    return Precision.FP32 if is_float else Precision.BF16


def estimate_bytes(folder: Path, *, precision: str = "auto") -> int:
    """Bytes that the weights of a folder will take once loaded, read from the files' headers.

    Raises ModelUnsupportedError where there are no weights in safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise unloadable(folder, "there is no .safetensors file in it")
    counts: dict[str, int] = {}
    for file in files:
        counts |= _element_counts(file)
    kind = resolve_precision(precision)
    exact = kind.activations.itemsize
    embedding = max(
        (count for name, count in counts.items() if name.endswith(_EMBEDDINGS)), default=0
    )
    head = counts.get("lm_head.weight", embedding)
    tables = (embedding + head) * exact
    others = sum(counts.values()) - embedding - counts.get("lm_head.weight", 0)
    if kind.bytes_per_weight == exact:
        return tables + others * exact
    copy = others * exact if others * exact <= READING_COPY_BYTES else 0
    return tables + int(others * kind.bytes_per_weight) + copy


_EMBEDDINGS = ("embed_tokens.weight", "wte.weight")


def _element_counts(file: Path) -> dict[str, int]:
    """Elements of each tensor. A file begins with the length of a JSON header of shapes."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > file.stat().st_size:
                raise ValueError("its header is cut off")
            header = json.loads(stream.read(length))
        return {
            name: prod(map(int, entry["shape"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise unloadable(file.parent, f"{file.name} is not a safetensors file ({error})") from error


def _check_vocabulary(folder: Path, decoder: Decoder, tokenizer: TextTokenizer) -> None:
    rows = decoder.vocabulary
    # Nothing reads or predicts the padding token: training may have added it to a base that is shared.
    added_padding = tokenizer.pad_id == tokenizer.vocab_size - 1
    if tokenizer.vocab_size - added_padding > rows:
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
