"""What surrounds every request: ids, health, figures, CORS, and errors in OpenAI's shape."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from tests.gateway_builders import MODEL, Gateway, ScriptedInference, gateway, served

from corral.errors import CorralError
from corral.gateway.app import surrounded
from corral.gateway.errors import add_error_handlers, param_in
from corral.settings import Settings


async def test_every_answer_has_a_request_id_the_clients_own_where_it_sent_one(
    door: Gateway,
) -> None:
    made = [(await door.http.get("/healthz")).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    kept = await door.http.get("/v1/nope", headers={"x-request-id": "mine-1"})
    assert kept.headers["x-request-id"] == "mine-1"
    forged = await door.http.get("/healthz", headers={"x-request-id": "no spaces"})
    assert forged.headers["x-request-id"] != "no spaces"


async def test_it_is_ready_while_trainer_and_inference_answer(door: Gateway) -> None:
    assert (await door.http.get("/readyz")).status_code == 200


async def test_figures_name_routes_never_ids(door: Gateway) -> None:
    await door.http.get("/v1/fine_tuning/jobs/job-secret")
    figures = (await door.http.get("/metrics")).text
    assert 'route="/v1/fine_tuning/jobs/{job_id}",status="404"' in figures
    assert "job-secret" not in figures


async def test_figures_are_kept_apart_where_they_have_a_port_of_their_own(tmp_path: Path) -> None:
    async with gateway(tmp_path, metrics_port=9464) as door:
        assert (await door.http.get("/metrics")).status_code == 404


async def test_pages_of_other_origins_call_only_where_they_are_allowed(tmp_path: Path) -> None:
    async with gateway(tmp_path, cors_origins="https://a.example, https://b.example") as door:
        for origin, allowed in (("https://b.example", True), ("https://c.example", False)):
            answer = await door.http.get("/v1/models", headers={"Origin": origin})
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nope", 404), ("PUT", "/v1/files", 405)]
)
async def test_what_is_not_there_is_refused_in_openais_shape(
    door: Gateway, method: str, path: str, status: int
) -> None:
    answer = await door.http.request(method, path)
    assert answer.status_code == status
    assert path in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b'"text"', b"\xff"])
async def test_a_body_that_is_no_object_is_refused(door: Gateway, body: bytes) -> None:
    answer = await door.http.post(
        "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_bug_is_an_incident_without_a_word_of_what_is_inside() -> None:
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/")
    async def broken() -> None:
        raise RuntimeError("the secret")

    whole = surrounded(app, Settings(), CollectorRegistry())
    async with served(whole) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.get("/")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal")
    assert "incident" in error["message"]
    assert "secret" not in answer.text


async def test_a_servers_own_error_is_passed_on(tmp_path: Path) -> None:
    broken = ScriptedInference(refusal=CorralError("It broke."))
    async with gateway(tmp_path, broken) as door:
        answer = await door.http.post(
            "/v1/chat/completions",
            json={"model": MODEL, "messages": [{"role": "user", "content": "x"}]},
        )
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "message": "It broke.",
        "type": "server_error",
        "param": None,
        "code": "internal",
    }


async def test_models_are_listed_with_what_corral_knows_of_them(door: Gateway) -> None:
    listed = (await door.http.get("/v1/models")).json()
    base, checkpoint = listed["data"]
    assert (base["id"], base["object"], base["corral"]["is_base"]) == (MODEL, "model", True)
    assert (checkpoint["corral"]["job_id"], checkpoint["corral"]["step"]) == ("job-1", 3)
    assert (await door.http.get(f"/v1/models/{MODEL}")).json() == base
    missing = await door.http.get("/v1/models/some/other")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"


async def test_one_checkpoint_alone_can_not_be_deleted(door: Gateway) -> None:
    answer = await door.http.delete("/v1/models/ft:tiny::job-1:ckpt-step-3")
    assert answer.status_code == 409
    assert "ft:tiny::job-1" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("max_length: 9 is more than the 8 tokens of x.", "max_length"),
        ("messages[2] is a system message.", "messages[2]"),
        ("The training spec is not valid: suffix: 'A' must be", "suffix"),
        ("The prompt is empty.", None),
        ("metadata.key: more than 512 characters.", "metadata.key"),
    ],
)
def test_the_field_at_fault_is_read_from_the_sentence(message: str, param: str | None) -> None:
    assert param_in(message) == param
