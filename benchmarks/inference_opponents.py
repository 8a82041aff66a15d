"""What others need for the same answers: transformers' generate and llama.cpp, one measurement a call.

    .venv-bench/bin/python benchmarks/inference_opponents.py NAME WORK.json

WORK.json holds the model's folder, a GGUF file, prompts as token ids and as text, tokens to write and
threads. Prints one line of JSON. Runs in an environment of its own, without Corral; its caller is
benchmarks/inference.py.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def main() -> None:
    name, path = sys.argv[1:]
    work = json.loads(Path(path).read_text())
    kind, _, variant = name.partition("-")
    measure = {"transformers": _transformers, "continuous": _continuous, "llamacpp": _llamacpp}[
        kind
    ]
    figures = measure(work, variant)
    figures["peak_bytes"] = _peak_bytes()
    print(json.dumps(figures))


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _rate(run: Callable[[], int], times: int = 2) -> float:
    """Tokens a second of the best of some runs, after one that warms up."""
    run()
    best = 0.0
    for _ in range(times):
        begin = time.perf_counter()
        tokens = run()
        best = max(best, tokens / (time.perf_counter() - begin))
    return best


def _transformers(work: dict[str, Any], dtype: str) -> dict[str, float]:
    import torch

    torch.set_num_threads(work["threads"])
    begin = time.perf_counter()
    model = _load(work, dtype)
    load_seconds = time.perf_counter() - begin
    count = work["tokens"]

    def generate(prompts: Sequence[Sequence[int]]) -> int:
        longest = max(map(len, prompts))
        ids = torch.zeros((len(prompts), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
            )
        return count * len(prompts)

    prompts = work["prompts"]
    return {
        "load_seconds": load_seconds,
        "alone": _rate(lambda: sum(generate([prompt]) for prompt in prompts[:2])),
        "eight": _rate(lambda: generate(prompts[:8])),
    }


def _continuous(work: dict[str, Any], dtype: str) -> dict[str, float]:
    """Transformers' own continuous batching, eight at once."""
    import torch
    from transformers import GenerationConfig

    torch.set_num_threads(work["threads"])
    model = _load(work, dtype)
    config = GenerationConfig(max_new_tokens=work["tokens"], do_sample=False, eos_token_id=-1)

    def run() -> int:
        results = model.generate_batch(inputs=work["prompts"][:8], generation_config=config)
        return sum(len(result.generated_tokens) for result in results.values())

    return {"eight": _rate(run, times=1)}


def _load(work: dict[str, Any], dtype: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return AutoModelForCausalLM.from_pretrained(work["folder"], dtype=types[dtype]).eval()


def _llamacpp(work: dict[str, Any], bits: str) -> dict[str, float]:
    begin = time.perf_counter()
    server = _llama_server(work, bits)
    load_seconds = time.perf_counter() - begin
    count = work["tokens"]

    def complete(prompt: Sequence[int]) -> int:
        done: list[Any] = []
        server.handle_completions(
            {
                "prompt": prompt,
                "n_predict": count,
                "ignore_eos": True,
                "temperature": 0,
                "cache_prompt": False,
            },
            done.append,
        )
        return count

    def at_once(prompts: Sequence[Sequence[int]]) -> int:
        with ThreadPoolExecutor(len(prompts)) as pool:
            return sum(pool.map(complete, prompts))

    prompts = work["prompts"]
    return {
        "load_seconds": load_seconds,
        "alone": _rate(lambda: sum(complete(prompt) for prompt in prompts[:2])),
        "eight": _rate(lambda: at_once(prompts[:8])),
    }


def _llama_server(work: dict[str, Any], bits: str) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = work[f"gguf_{bits}"]
    params.n_ctx = 8 * 1024
    params.n_parallel = 8
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = work["threads"]
    params.cpuparams_batch.n_threads = work["threads"]
    params.warmup = True
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
