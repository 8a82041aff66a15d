"""A Hugging Face folder as one GGUF file, which llama.cpp and what is built on it opens.

Does what llama.cpp's convert_hf_to_gguf.py does for the families here: names, the order of the rotary
rows, the vocabulary with its merges. Byte-level BPE vocabularies only, since that is what GPT-2,
Llama 3, SmolLM2 and Qwen have. Needs gguf, numpy, safetensors and ml_dtypes, no torch. Knows nothing
of where models are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import gguf
import ml_dtypes  # noqa: F401 - teaches numpy bfloat16, by which safetensors names it
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from corral.bases import check_architecture, context_length
from corral.bases.architecture import read_config
from corral.data.tokenizing import TextTokenizer
from corral.errors import ModelUnsupportedError
from corral.exporting.vocabulary import Vocabulary, read_vocabulary

FileType = Literal["f32", "f16", "bf16", "q8_0"]
FILE_TYPES: tuple[str, ...] = get_args(FileType)

Tensor = NDArray[Any]

_TYPES = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}


@dataclass(frozen=True)
class _Family:
    """How llama.cpp calls an architecture, and what it wants changed in its tensors."""

    arch: gguf.MODEL_ARCH
    # Its rotary embedding turns neighbouring rows, transformers' one half with the other.
    interleaves: bool = False
    # GPT-2's linear layers are stored [in, out].
    transposes: bool = False


_FAMILIES = {
    "GPT2LMHeadModel": _Family(gguf.MODEL_ARCH.GPT2, transposes=True),
    "LlamaForCausalLM": _Family(gguf.MODEL_ARCH.LLAMA, interleaves=True),
    "MistralForCausalLM": _Family(gguf.MODEL_ARCH.LLAMA, interleaves=True),
    "Qwen2ForCausalLM": _Family(gguf.MODEL_ARCH.QWEN2),
    "Qwen3ForCausalLM": _Family(gguf.MODEL_ARCH.QWEN3),
}
_TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
# Masks that old GPT-2 files carry as tensors.
_NO_WEIGHTS = (".attn.bias", ".attn.masked_bias")


def write_gguf(
    folder: Path,
    target: Path,
    *,
    name: str,
    chat_template: str,
    file_type: FileType = "f16",
    on_tensor: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the model in `folder` to the file `target`.

    Matrices take `file_type`, vectors stay float32. `on_tensor` hears how many tensors of how many
    are written. Raises ModelUnsupportedError for a family or a tokenizer that GGUF can't be written
    of, or a folder that is not what its config says.
    """
    architecture = check_architecture(folder)
    family = _FAMILIES.get(architecture)
    if family is None:
        raise ModelUnsupportedError(
            f"{architecture} can't be written as GGUF here.", "Export it with --to hf."
        )
    config = read_config(folder)
    # Before anything is written: all that may be refused.
    vocabulary = read_vocabulary(folder, config["vocab_size"])
    scaling = _rotary_scaling(folder, config)
    quantization, whole = _TYPES[file_type]
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[family.arch])
    writer.add_name(name)
    writer.add_file_type(whole)
    _add_sizes(writer, family, config, context_length(folder))
    _add_vocabulary(writer, vocabulary, TextTokenizer.from_folder(folder), chat_template)
    for stored, values in (*_tensors(folder, family, config), *scaling):
        kind = quantization if _takes(values, quantization) else gguf.GGMLQuantizationType.F32
        data = gguf.quantize(np.ascontiguousarray(values), kind)
        writer.add_tensor(stored, data, raw_dtype=kind)
    total = sum(len(part) for part in writer.tensors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    on_tensor(0, total)
    writer.write_tensors_to_file()
    on_tensor(total, total)
    writer.close()


def _takes(values: Tensor, quantization: gguf.GGMLQuantizationType) -> bool:
    """Whether llama.cpp takes these values in that type: matrices whose rows fill whole blocks."""
    block, _ = gguf.GGML_QUANT_SIZES[quantization]
    return values.ndim == 2 and values.shape[-1] % block == 0


def _add_sizes(
    writer: gguf.GGUFWriter, family: _Family, config: dict[str, Any], context: int
) -> None:
    writer.add_context_length(context)
    writer.add_vocab_size(config["vocab_size"])
    if family.arch == gguf.MODEL_ARCH.GPT2:
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
        writer.add_block_count(config["n_layer"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config.get("layer_norm_epsilon", 1e-5))
        return
    heads = config["num_attention_heads"]
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_layer_norm_rms_eps(config.get("rms_norm_eps", 1e-6))
    writer.add_rope_freq_base(_rotary(config)["rope_theta"])
    head_dim = _head_dim(config)
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)


def _add_vocabulary(
    writer: gguf.GGUFWriter, vocabulary: Vocabulary, tokenizer: TextTokenizer, chat_template: str
) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.splitting)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types([int(kind) for kind in vocabulary.kinds])
    writer.add_token_merges(list(vocabulary.merges))
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_add_bos_token(bool(tokenizer.prefix_ids))
    if tokenizer.prefix_ids:
        writer.add_bos_token_id(tokenizer.prefix_ids[0])
    if tokenizer.pad_id is not None:
        writer.add_pad_token_id(tokenizer.pad_id)
    writer.add_chat_template(chat_template)


# ---------------------------------------------------------------- tensors


def _tensors(folder: Path, family: _Family, config: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under llama.cpp's name, float32, one at a time."""
    layers = config.get("n_layer") or config["num_hidden_layers"]
    names = gguf.get_tensor_name_map(family.arch, layers)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                if name.endswith(_NO_WEIGHTS):
                    continue
                stored = _name(names, name)
                if stored is None:
                    raise ModelUnsupportedError(f"{file}: GGUF has no place for {name}.")
                yield stored, _arranged(name, tensors.get_tensor(name), family, config)


def _name(names: gguf.TensorNameMap, name: str) -> str | None:
    # A GPT-2 that was saved as a bare model has no prefix.
    candidates = (names.get_name(n, (".weight", ".bias")) for n in (name, f"transformer.{name}"))
    return next(filter(None, candidates), None)


def _arranged(name: str, values: Tensor, family: _Family, config: dict[str, Any]) -> Tensor:
    values = values.astype(np.float32)
    if family.transposes and name.endswith(_TRANSPOSED):
        return values.T
    if family.interleaves and ".q_proj." in name:
        return _interleaved(values, config["num_attention_heads"])
    if family.interleaves and ".k_proj." in name:
        heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        return _interleaved(values, heads)
    return values


def _interleaved(rows: Tensor, heads: int) -> Tensor:
    """Query or key rows, [heads * head_dim, …], each half's rows in turn."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _head_dim(config: dict[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


# ---------------------------------------------------------------- rotary embedding


def _rotary(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary embedding's settings, wherever this version of the file has them."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return {"rope_type": "default", "rope_theta": config.get("rope_theta", 10_000.0)} | found


def _rotary_scaling(folder: Path, config: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """Llama 3's factors as the tensor that llama.cpp reads; none where nothing is scaled.

    Raises ModelUnsupportedError for another way of scaling.
    """
    rotary = _rotary(config)
    if rotary["rope_type"] == "default":
        return []
    if rotary["rope_type"] != "llama3":
        raise ModelUnsupportedError(
            f"{folder}: its rotary embedding is scaled as {rotary['rope_type']!r}.",
            "Only llama3's way can be written as GGUF here; export it with --to hf.",
        )
    return [("rope_freqs.weight", llama3_factors(rotary, _head_dim(config)))]


def llama3_factors(rotary: dict[str, Any], head_dim: int) -> Tensor:
    """By what each frequency is divided, [head_dim / 2] float32 (Llama 3.1's model code).

    Short waves stay, long ones are stretched by the factor, those between by a blend.
    """
    factor, low, high = (rotary[key] for key in ("factor", "low_freq_factor", "high_freq_factor"))
    trained = rotary["original_max_position_embeddings"]
    waves = [
        2 * math.pi * rotary["rope_theta"] ** (2 * at / head_dim) for at in range(head_dim // 2)
    ]

    def divisor(wave: float) -> float:
        if wave < trained / high:
            return 1.0
        if wave > trained / low:
            return float(factor)
        blend = (trained / wave - low) / (high - low)
        return float(1 / ((1 - blend) / factor + blend))

    return np.array([divisor(wave) for wave in waves], dtype=np.float32)
