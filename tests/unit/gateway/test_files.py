"""/v1/files: uploads stream through, and report on every row."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from tests.gateway_builders import Gateway
from tests.trainer_builders import ROWS, jsonl

from corral.errors import InvalidRequestError
from corral.gateway.multipart import FilePart, FormReader


async def test_an_upload_is_a_file_that_can_be_read_back(door: Gateway) -> None:
    content = jsonl(ROWS)
    uploaded = await door.upload(content)

    assert uploaded["id"] == f"file-{uploaded['corral']['dataset_id']}"
    assert (uploaded["status"], uploaded["bytes"]) == ("processed", len(content))
    assert (uploaded["filename"], uploaded["purpose"]) == ("rows.jsonl", "fine-tune")
    got = await door.http.get(f"/v1/files/{uploaded['id']}")
    assert got.json() == uploaded
    back = await door.http.get(f"/v1/files/{uploaded['id']}/content")
    assert back.content == content


async def test_bad_rows_are_reported_at_upload_with_their_lines(door: Gateway) -> None:
    content = jsonl([*ROWS, {"instruction": "no output"}]) + b"not json\n"
    uploaded = await door.upload(content)

    assert uploaded["status"] == "error"
    assert [problem["line"] for problem in uploaded["corral"]["problems"]] == [7, 8]
    assert "line 7" in uploaded["status_details"]
    created = await door.create_job(uploaded["id"])
    assert created.status_code == 400
    error = created.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_training_file", "training_file")
    assert "line 7" in error["message"]


async def test_a_file_without_a_row_is_refused(door: Gateway) -> None:
    answer = await door.http.post(
        "/v1/files", files={"file": ("a.jsonl", b"nothing")}, data={"purpose": "fine-tune"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_training_file"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "assistants"}, "purpose"),
        ({}, "purpose"),
        ({"purpose": "fine-tune", "expires_after[seconds]": "3600"}, "expires_after"),
    ],
)
async def test_a_wrong_form_stores_nothing(
    door: Gateway, fields: dict[str, str], param: str
) -> None:
    # Fields behind the file, where they are only known once its bytes have passed.
    body = ['--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n']
    body.append(jsonl(ROWS).decode() + "\r\n")
    for name, value in fields.items():
        body.append(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n')
    body.append("--x--\r\n")
    answer = await door.http.post(
        "/v1/files",
        content="".join(body),
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert (await door.http.get("/v1/files")).json()["data"] == []


async def test_files_are_listed_in_pages(door: Gateway) -> None:
    files = [(await door.upload(jsonl([row])))["id"] for row in ROWS[:3]]

    first = (await door.http.get("/v1/files", params={"limit": 2})).json()
    rest = (await door.http.get("/v1/files", params={"after": first["last_id"]})).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == files[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    oldest = (await door.http.get("/v1/files", params={"order": "asc", "limit": 1})).json()
    assert oldest["data"][0]["id"] == files[0]


async def test_a_deleted_file_is_gone_unless_a_job_needs_it(door: Gateway) -> None:
    uploaded = await door.upload(jsonl(ROWS))
    job = (await door.create_job(uploaded["id"])).json()
    path = f"/v1/files/{uploaded['id']}"
    assert (await door.http.delete(path)).status_code == 409
    await door.http.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    gone = await door.http.delete(path)
    assert gone.json() == {"id": uploaded["id"], "object": "file", "deleted": True}
    assert (await door.http.get(path)).status_code == 404


@pytest.mark.parametrize("file", ["file-abc", "x", "file-" + "g" * 64])
async def test_what_is_no_file_is_not_found(door: Gateway, file: str) -> None:
    for path in (f"/v1/files/{file}", f"/v1/files/{file}/content"):
        assert (await door.http.get(path)).status_code == 404


# ---------------------------------------------------------------- the form by itself


async def chunks(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n'
    b"Content-Type: application/json\r\n\r\n" + json.dumps(ROWS).encode() + b"\r\n--b--\r\n"
)


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_form_reads_the_same_in_whatever_pieces_it_comes(size: int) -> None:
    form = FormReader("multipart/form-data; boundary=b", chunks(FORM, size))
    first, *pieces = [part async for part in form.parts()]

    assert first == FilePart("file", "a.jsonl")
    assert b"".join(pieces) == json.dumps(ROWS).encode()  # type: ignore[arg-type]
    assert form.fields == {"purpose": "fine-tune"}


async def test_a_form_that_breaks_off_is_refused() -> None:
    form = FormReader("multipart/form-data; boundary=b", chunks(FORM[:-10], 50))
    with pytest.raises(InvalidRequestError, match="ends before its end"):
        [part async for part in form.parts()]


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data"])
def test_a_body_that_is_no_form_is_refused(kind: str) -> None:
    with pytest.raises(InvalidRequestError, match="multipart/form-data"):
        FormReader(kind, chunks(b"", 1))
