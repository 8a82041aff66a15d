"""Models in and out as files: `corral models import`, `pull`, `export`, `delete`, over a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.checkpoint_builders import publish_job, write_checkpoint
from tests.fakes import MemoryJobStore
from tests.hub_double import HubDouble
from tests.rpc_builders import running
from tests.tiny_models import tiny_gpt2, tiny_llama

from corral.bases import find_base, list_bases
from corral.bases.importing import RECORD_NAME, read_record
from corral.client.gguf_export import export_gguf
from corral.client.hf_export import write_chat_template
from corral.client.model_files import ModelFiles
from corral.data.conversation import Conversation, Message
from corral.errors import (
    ConflictError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelUnsupportedError,
)
from corral.inference.model_files import ModelsService, registration
from corral.inference.models import Catalog
from corral.rpc.channel import open_channel
from corral.volume import Volume

# torch makes the tiny models.
pytestmark = pytest.mark.torch


@dataclass(frozen=True)
class Served:
    volume: Volume
    jobs: MemoryJobStore
    models: ModelFiles


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    volume, jobs = Volume(tmp_path / "data"), MemoryJobStore()
    volume.bases.mkdir(parents=True)
    service = ModelsService(Catalog(jobs, volume), jobs, volume)
    async with running(registration(service)) as address:
        with open_channel(address) as channel:
            yield Served(volume, jobs, ModelFiles(channel, address))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_llama(tmp_path / "source")


def _hashes(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.name != RECORD_NAME
    }


# ---------------------------------------------------------------- in


async def test_an_imported_folder_is_a_base_model(served: Served, source: Path) -> None:
    told: list[tuple[int, int]] = []
    model = await asyncio.to_thread(
        served.models.import_folder, source, "mine-1.0", lambda *done: told.append(done)
    )
    assert (model.name, model.architecture) == ("mine-1.0", "LlamaForCausalLM")
    assert list_bases(served.volume)[:1] == ["mine-1.0"]
    folder = find_base("mine-1.0", served.volume)
    assert _hashes(folder) == _hashes(source)
    record = read_record(served.volume, "mine-1.0")
    assert {name: file.sha256 for name, file in record.files.items()} == _hashes(source)
    assert told[-1][0] == told[-1][1] == model.size_bytes


async def test_a_gguf_file_is_a_base_model_too(
    served: Served, source: Path, tmp_path: Path
) -> None:
    from corral.exporting.gguf_file import write_gguf

    file = tmp_path / "tiny.gguf"
    write_gguf(source, file, name="tiny", chat_template="{{ x }}", file_type="q8_0")
    model = await asyncio.to_thread(served.models.import_folder, file, "from-gguf")
    assert (model.name, model.source) == ("from-gguf", "tiny.gguf")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("config.json", "config.json"),
        ("tokenizer.json", "tokenizer.json"),
        ("model.safetensors", "safetensors"),
    ],
)
async def test_a_folder_without_a_part_is_refused_and_leaves_nothing(
    served: Served, source: Path, broken: str, said: str
) -> None:
    (source / broken).unlink()
    with pytest.raises(ModelUnsupportedError, match=said):
        await asyncio.to_thread(served.models.import_folder, source, "mine")
    assert list(served.volume.bases.iterdir()) == []


async def test_weights_that_are_cut_off_are_refused(served: Served, source: Path) -> None:
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelUnsupportedError, match="safetensors"):
        await asyncio.to_thread(served.models.import_folder, source, "mine")
    assert list(served.volume.bases.iterdir()) == []


async def test_an_architecture_that_is_not_on_the_list_is_refused(
    served: Served, source: Path
) -> None:
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(
        json.dumps(config | {"architectures": ["MambaForCausalLM"]})
    )
    with pytest.raises(ModelUnsupportedError, match="MambaForCausalLM"):
        await asyncio.to_thread(served.models.import_folder, source, "mine")


@pytest.mark.parametrize("name", ["../x", "Mine", "", "a/b", "-x", "x" * 64])
async def test_a_name_that_could_be_a_path_is_refused(
    served: Served, source: Path, name: str
) -> None:
    with pytest.raises(InvalidRequestError, match="name"):
        await asyncio.to_thread(served.models.import_folder, source, name)


async def test_a_name_that_is_taken_is_refused(served: Served, source: Path) -> None:
    await asyncio.to_thread(served.models.import_folder, source, "mine")
    with pytest.raises(ConflictError, match="already"):
        await asyncio.to_thread(served.models.import_folder, source, "mine")
    with pytest.raises(ConflictError, match="smollm2"):
        await asyncio.to_thread(served.models.import_folder, source, "smollm2-135m")


async def test_a_folder_that_is_not_there_is_named(served: Served, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="nowhere"):
        await asyncio.to_thread(served.models.import_folder, tmp_path / "nowhere", "mine")
    with pytest.raises(ModelUnsupportedError, match="no model"):
        await asyncio.to_thread(served.models.import_folder, tmp_path, "mine")


async def test_an_imported_model_goes_unless_a_job_needs_it(served: Served, source: Path) -> None:
    await asyncio.to_thread(served.models.import_folder, source, "mine")
    await publish_job(served.jobs, job_id="job-1", steps=(10,), model="mine", suffix="x")
    with pytest.raises(ConflictError, match="job-1"):
        await asyncio.to_thread(served.models.delete, "mine")
    await served.jobs.cancel("job-1")
    job = await served.jobs.get("job-1")
    await served.jobs.release("job-1", job.attempt, "over")
    await asyncio.to_thread(served.models.delete, "mine")
    assert list(served.volume.bases.iterdir()) == []
    with pytest.raises(ModelNotFoundError):
        await asyncio.to_thread(served.models.delete, "mine")


# ---------------------------------------------------------------- from a hub


async def test_a_model_is_pulled_with_progress(
    served: Served, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    with HubDouble({"someone/tiny": source}) as hub:
        hub.point_to(monkeypatch, cache=tmp_path / "hub")
        model = await asyncio.to_thread(
            served.models.pull, "someone/tiny", lambda *done: told.append(done)
        )
    assert (model.name, model.architecture) == ("someone/tiny", "LlamaForCausalLM")
    assert _hashes(find_base("someone/tiny", served.volume, download=False)) == _hashes(source)


async def test_a_pull_whose_connection_is_cut_goes_on_where_it_was(
    served: Served, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubDouble({"someone/tiny": source}) as hub:
        hub.point_to(monkeypatch, cache=tmp_path / "hub")
        hub.cut_after = 50_000
        await asyncio.to_thread(served.models.pull, "someone/tiny")
        assert any(start > 0 for start in hub.ranges), "it began anew"
    assert _hashes(find_base("someone/tiny", served.volume, download=False)) == _hashes(source)


async def test_a_model_that_the_hub_has_not_got_is_named(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubDouble({}) as hub:
        hub.point_to(monkeypatch, cache=tmp_path / "hub")
        with pytest.raises(ModelNotFoundError, match="someone/other"):
            await asyncio.to_thread(served.models.pull, "someone/other")
    with pytest.raises(ModelNotFoundError, match="no such"):
        await asyncio.to_thread(served.models.pull, "no such")


# ---------------------------------------------------------------- out


async def test_a_checkpoint_comes_out_as_a_plain_folder(
    served: Served, source: Path, tmp_path: Path
) -> None:
    written = write_checkpoint(served.volume, source, job_id="job-1", step=10)
    await publish_job(served.jobs, job_id="job-1", steps=(10,), model="tiny", suffix="x")
    target = tmp_path / "out"
    target.mkdir()
    found = await asyncio.to_thread(served.models.download, "job-1", target)
    assert found.name == "ft:tiny:x:job-1:ckpt-step-10"
    assert {file.name for file in target.iterdir()} >= {"config.json", "model.safetensors"}
    assert not {"manifest.json", "state"} & {file.name for file in target.iterdir()}
    weights = (target / "model.safetensors").read_bytes()
    assert weights == (written / "model.safetensors").read_bytes()


async def test_transformers_asks_an_exported_model_as_it_was_trained(
    served: Served, source: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    write_checkpoint(served.volume, source, job_id="job-1", step=10, preamble="Praise them.")
    await publish_job(served.jobs, job_id="job-1", steps=(10,), model="tiny", suffix="x")
    target = tmp_path / "out"
    target.mkdir()
    found = await asyncio.to_thread(served.models.download, "job-1", target)
    write_chat_template(found)
    prompt = AutoTokenizer.from_pretrained(target).apply_chat_template(
        [{"role": "user", "content": "Who?"}], add_generation_prompt=True, tokenize=False
    )
    segments = found.template.render_prompt(Conversation((Message("user", "Who?"),)))
    assert prompt == "".join(segment.text for segment in segments)
    assert prompt.startswith("Praise them.")


_LLAMA_CPP = """
import json, sys, xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.n_ctx, parameters.n_gpu_layers = sys.argv[1], 128, 0
parameters.cpuparams.n_threads, parameters.warmup = 1, False
server = xllamacpp.Server(parameters)
asked = [{"role": "user", "content": sys.argv[2]}]
options = {"messages": asked, "max_tokens": 24, "temperature": 0, "top_k": 1}
print(json.dumps(server.handle_chat_completions(options)["choices"][0]["message"]["content"]))
"""


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
async def test_llama_cpp_says_of_an_exported_model_what_transformers_says(
    served: Served, tmp_path: Path, make: object
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from corral.data.tokenizing import TextTokenizer

    base = make(tmp_path / "base")  # type: ignore[operator]
    write_checkpoint(served.volume, base, job_id="job-1", step=10)
    await publish_job(served.jobs, job_id="job-1", steps=(10,), model="tiny", suffix="x")
    (tmp_path / "hf").mkdir()
    found = await asyncio.to_thread(served.models.download, "job-1", tmp_path / "hf")
    (tmp_path / "out").mkdir()
    file = export_gguf(found, tmp_path / "out", "f32")
    assert (tmp_path / "out" / "Modelfile").is_file()

    question = "Name a colour."
    tokenizer = TextTokenizer.from_folder(found.folder)
    segments = found.template.render_prompt(Conversation((Message("user", question),)))
    ids = torch.tensor([tokenizer.encode_prompt(segments)])
    model = AutoModelForCausalLM.from_pretrained(found.folder, dtype=torch.float32)
    answer = model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :].tolist()
    expected = tokenizer.decode([token for token in answer if token != tokenizer.eos_id])

    command = [sys.executable, "-c", _LLAMA_CPP, str(file), question]
    # A process of its own: it writes to stderr as it likes, and ends with its threads.
    said = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(said.stdout.splitlines()[-1]) == expected


async def test_what_is_not_there_is_not_downloaded(served: Served, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        await asyncio.to_thread(served.models.download, "nothing", tmp_path)
    shutil.rmtree(served.volume.bases)
