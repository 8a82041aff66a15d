"""A Hugging Face folder as a network, strictly: safetensors only, no code of its own, every weight
there and of its config's shape.

Part of the tensor half, shared by training and generation. Knows nothing of what the network is for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from corral.bases import check_architecture, unloadable


def load_network(folder: Path, dtype: torch.dtype) -> Any:
    """The causal language model in a folder, on the CPU, its weights in `dtype`.

    Raises ModelUnsupportedError where its architecture is not on the list, or its weights are
    incomplete, unreadable or do not fit its config.json.
    """
    check_architecture(folder)
    try:
        # Any: the stubs do not know that output_loading_info makes it two.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
        )
    # transformers raises whatever its parts raise; safetensors' own error derives from Exception.
    except Exception as error:
        raise unloadable(folder, str(error).partition("\n")[0] or type(error).__name__) from error
    network, report = loaded
    absent = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
    if absent:
        raise unloadable(
            folder, f"{len(absent)} tensors are absent or of a wrong shape: {absent[0]}"
        )
    return network
