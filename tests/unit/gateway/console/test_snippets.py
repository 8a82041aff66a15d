"""Jobs and questions as code, which must say the same as the form."""

from __future__ import annotations

import ast
import json
import shlex

from corral.gateway.console import snippets
from corral.v1 import trainer_pb2 as pb

FIELDS = {
    "model": "gpt2",
    "epochs": 4,
    "learning_rate": 1e-4,
    "packing": False,
    "suffix": "dusty",
    "preamble": 'You\'re a "hand".',
}
API = "http://127.0.0.1:8080/v1"


def test_only_what_differs_from_the_defaults_is_written() -> None:
    spec = pb.TrainingSpec(model="gpt2", epochs=3, batch_size=2, packing=True)
    assert snippets.changed_fields(spec) == {"model": "gpt2", "batch_size": 2}


def test_the_command_is_one_that_a_shell_reads() -> None:
    command = snippets.training("my rows.jsonl", FIELDS, API)["Command"]
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:3] == ["corral", "train", "my rows.jsonl"]
    assert words[words.index("--preamble") + 1] == FIELDS["preamble"]
    assert "--no-packing" in words


def test_the_python_is_python_and_sorts_fields_into_openais_and_ours() -> None:
    code = snippets.training("rows.jsonl", FIELDS, API)["Python"]
    ast.parse(code)
    assert "'n_epochs': 4" in code
    assert "suffix='dusty'" in code
    assert "extra_body={'learning_rate': 0.0001" in code


def test_the_body_for_curl_is_json() -> None:
    words = shlex.split(snippets.training("rows.jsonl", FIELDS, API)["curl"], comments=True)
    body = json.loads(words[-1])
    assert body["method"]["supervised"]["hyperparameters"] == {"n_epochs": 4}
    assert body["packing"] is False


def test_a_question_is_asked_again_with_the_same_options() -> None:
    messages = [{"role": "user", "content": "What's up?"}]
    sampling = {"temperature": 0.5, "max_tokens": 9, "top_k": 3, "stop": ["a", "b"]}
    code = snippets.chatting(["one", "two"], messages, sampling, API)
    words = shlex.split(code["Command"].replace("\\\n", ""))
    assert words[:7] == ["echo", "What's up?", "|", "corral", "chat", "one", "two"]
    assert words.count("--stop") == 2
    ast.parse(code["Python"])
    assert "max_completion_tokens=9" in code["Python"]
    assert "extra_body={'top_k': 3}" in code["Python"]
    assert json.loads(shlex.split(code["curl"])[-1])["stop"] == ["a", "b"]
