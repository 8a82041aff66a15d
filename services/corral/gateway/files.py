"""/v1/files: data sets up, listed, down and away. An upload streams through, never whole in memory.

Knows nothing of jobs; the checking of rows is the trainer's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from corral.errors import InvalidRequestError
from corral.gateway import ids
from corral.gateway.dependencies import ClientOf
from corral.gateway.errors import RESPONSES, UnsupportedError
from corral.gateway.multipart import FilePart, FormReader
from corral.gateway.paging import After, ListOf, page_of
from corral.gateway.schemas.base import Deleted
from corral.gateway.schemas.files import FileObject, FileReport, RowProblemView
from corral.v1 import trainer_pb2 as pb

router = APIRouter(prefix="/v1/files", tags=["files"], responses=RESPONSES)

PURPOSE = "fine-tune"
_MOST_FILES = 10_000
_TOLD_PROBLEMS = 3
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": [PURPOSE]},
                    },
                }
            }
        },
    }
}


@router.post("", openapi_extra=_FORM)
async def upload_file(request: Request, client: ClientOf) -> FileObject:
    """Upload rows to train on: JSONL or a JSON array. The answer reports on every row."""
    form = FormReader(request.headers.get("content-type", ""), request.stream())
    async with aclosing(form.parts()) as parts:
        first = await anext(parts, None)
        if not isinstance(first, FilePart) or first.field != "file":
            raise InvalidRequestError("file: the form has no file of this name.")
        pieces = _checked(form, parts)
        async with aclosing(pieces):
            return file_object(await client.upload_dataset(first.filename, pieces))


async def _checked(
    form: FormReader, parts: AsyncGenerator[FilePart | bytes]
) -> AsyncGenerator[bytes]:
    """The bytes of the one file. The fields may come behind it: what is wrong with them ends the
    upload before anything is stored.
    """
    async for part in parts:
        if isinstance(part, FilePart):
            raise InvalidRequestError(f"{part.field}: the form has more than one file.")
        yield part
    for name in form.fields:
        if name != "purpose":
            raise UnsupportedError(name.partition("[")[0])
    purpose = form.fields.get("purpose")
    if purpose is None:
        raise InvalidRequestError("purpose: missing.", f"Send purpose={PURPOSE}.")
    if purpose != PURPOSE:
        raise UnsupportedError("purpose", f"{purpose!r:.80} is not supported, only {PURPOSE}")


@router.get("")
async def list_files(
    client: ClientOf,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_FILES)] = _MOST_FILES,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(max_length=64)] = None,
) -> ListOf[FileObject]:
    """The files, newest first."""
    if purpose not in (None, PURPOSE):
        return ListOf(data=[])
    datasets = client.datasets() if order == "desc" else _oldest_first(client.datasets())
    found, has_more = await page_of(datasets, after, limit, lambda one: ids.file_id(one.id))
    files = [file_object(dataset) for dataset in found]
    ends = {"first_id": files[0].id, "last_id": files[-1].id} if files else {}
    return ListOf(data=files, has_more=has_more, **ends)


async def _oldest_first(datasets: AsyncGenerator[pb.Dataset]) -> AsyncGenerator[pb.Dataset]:
    async with aclosing(datasets):
        found = [dataset async for dataset in datasets]
    for dataset in reversed(found):
        yield dataset


@router.get("/{file_id}")
async def get_file(file_id: str, client: ClientOf) -> FileObject:
    """A file with the report on its rows."""
    return file_object(await client.get_dataset(ids.dataset_id(file_id)))


@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def get_file_content(file_id: str, client: ClientOf) -> StreamingResponse:
    """The bytes that were uploaded."""
    dataset = await client.get_dataset(ids.dataset_id(file_id))
    return StreamingResponse(
        client.download_dataset(dataset.id),
        media_type="application/octet-stream",
        headers={"Content-Length": str(dataset.size_bytes)},
    )


@router.delete("/{file_id}")
async def delete_file(file_id: str, client: ClientOf) -> Deleted:
    """Remove a file. Refused while a job that has not ended needs it."""
    await client.delete_dataset(ids.dataset_id(file_id))
    return Deleted(id=file_id, object="file")


# ---------------------------------------------------------------- views


def file_object(dataset: pb.Dataset) -> FileObject:
    """A data set as a file."""
    report = dataset.report
    problems = [_problem(problem) for problem in report.problems]
    is_usable = all(problem.severity == "warning" for problem in problems)
    return FileObject(
        id=ids.file_id(dataset.id),
        bytes=dataset.size_bytes,
        created_at=dataset.created_at.seconds,
        filename=dataset.filename,
        status="processed" if is_usable else "error",
        status_details=_details(report, problems),
        corral=FileReport(
            dataset_id=dataset.id,
            format=dataset.format,
            rows=report.rows,
            usable_rows=report.usable_rows,
            problem_count=report.problem_count,
            problems=problems,
        ),
    )


def _problem(problem: pb.RowProblem) -> RowProblemView:
    is_error = problem.severity == pb.RowProblem.SEVERITY_ERROR
    return RowProblemView(
        row=problem.row,
        line=problem.line,
        field=problem.field,
        code=problem.code,
        message=problem.message,
        excerpt=problem.excerpt,
        severity="error" if is_error else "warning",
    )


def _details(report: pb.DatasetReport, problems: list[RowProblemView]) -> str | None:
    if not problems:
        return None
    told = "; ".join(
        f"line {one.line}: {one.field + ': ' if one.field else ''}{one.message}"
        for one in problems[:_TOLD_PROBLEMS]
    )
    more = report.problem_count - min(len(problems), _TOLD_PROBLEMS)
    behind = f"; and {more} more" if more else ""
    return f"{report.usable_rows} of {report.rows} rows can be trained on. {told}{behind}"
