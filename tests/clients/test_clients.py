"""Programs that we did not write talk to Corral as to OpenAI. Each asserts for itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.clients.conftest import PROGRAMS, Served

pytestmark = [pytest.mark.clients, pytest.mark.torch]


@pytest.mark.parametrize("program", ["litellm_client.py", "langchain_client.py"])
def test_python_libraries_chat_in_whole_and_streamed(
    served: Served, python: Path, program: str
) -> None:
    served.run(python, PROGRAMS / program)


def test_llm_chats_from_the_command_line(
    served: Served, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {
        "model_id": "corral",
        "model_name": served.model,
        "api_base": f"{served.up.status['gateway']}/v1",
    }
    (tmp_path / "extra-openai-models.yaml").write_text(yaml.safe_dump([model]))
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    llm = python.with_name("llm")
    asked = ("-m", "corral", "-o", "max_tokens", "5", "-o", "temperature", "0", "Say a")
    streamed = served.run(llm, *asked)
    assert streamed == served.run(llm, "--no-stream", *asked)


def test_no_request_that_openapi_allows_makes_the_gateway_fail(
    served: Served, python: Path, tmp_path: Path
) -> None:
    said = served.run(
        python.with_name("st"),
        "run",
        f"{served.up.status['gateway']}/openapi.json",
        "--checks=not_a_server_error",
        # A base model is unpacked when it is first asked for.
        "--request-timeout=120",
        "--max-examples=20",
        "--seed=1",
        # `ready` and figures ask nothing of a request.
        "--exclude-path-regex=metrics|readyz",
        cwd=tmp_path,
    )
    assert re.search(r"(\d+) generated, \1 passed", said), said[-2000:]


def test_openais_node_package_walks_the_fine_tuning_guide(
    served: Served, node: Callable[..., tuple[Path, Path]]
) -> None:
    program, folder = node("openai")
    shutil.copy(PROGRAMS / "openai_client.mjs", folder)
    served.run(program, folder / "openai_client.mjs")


def test_a_grpc_client_in_node_needs_the_protos_alone(
    served: Served, node: Callable[..., tuple[Path, Path]]
) -> None:
    program, folder = node("@grpc/grpc-js", "@grpc/proto-loader")
    shutil.copy(PROGRAMS / "grpc_client.mjs", folder)
    served.run(program, folder / "grpc_client.mjs")
