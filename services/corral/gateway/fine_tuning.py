"""/v1/fine_tuning/jobs: jobs created, listed, watched, paused, resumed and cancelled.

Knows nothing of how a job is shown, see corral.gateway.jobs_view.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request

from corral.client import AsyncConnection
from corral.gateway import ids
from corral.gateway.dependencies import ClientOf
from corral.gateway.errors import RESPONSES, UnsupportedError
from corral.gateway.job_specs import spec_of
from corral.gateway.jobs_view import (
    checkpoint_view,
    event_view,
    is_unfinished,
    job_view,
)
from corral.gateway.paging import After, ListOf, page_of
from corral.gateway.schemas.fine_tuning import (
    FineTuningJob,
    JobCheckpoint,
    JobEvent,
    JobRequest,
)
from corral.v1 import trainer_pb2 as pb

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], responses=RESPONSES)

# A job that is told to stop does within one optimizer step and a save: answered then, not before,
# so that the status is the one that OpenAI's clients expect.
_SETTLING_SECONDS = 20.0
_METADATA = "metadata["

Limit = Annotated[int, Query(ge=1, le=100)]


@router.post("")
async def create_job(
    asked: JobRequest,
    client: ClientOf,
    idempotency_key: Annotated[str, Header(max_length=256)] = "",
) -> FineTuningJob:
    """Check the spec and every row, then queue a job."""
    if asked.validation_file is not None:
        raise UnsupportedError(
            "validation_file", "is not supported; eval_split holds rows of the training file out"
        )
    job = await client.create_job(
        ids.dataset_id(asked.training_file),
        spec_of(asked),
        idempotency_key=idempotency_key,
        metadata=asked.metadata,
    )
    return job_view(job)


@router.get(
    "",
    openapi_extra={
        "parameters": [
            {
                "name": "metadata",
                "in": "query",
                "style": "deepObject",
                "explode": True,
                "description": "Only jobs with these notes: metadata[key]=value.",
                "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            }
        ]
    },
)
async def list_jobs(
    request: Request, client: ClientOf, after: After = None, limit: Limit = 20
) -> ListOf[FineTuningJob]:
    """The jobs, newest first."""
    wanted = _metadata_wanted(request)
    jobs, has_more = await page_of(
        _with_metadata(client.jobs(), wanted), after, limit, lambda job: job.id
    )
    return ListOf(data=[job_view(job) for job in jobs], has_more=has_more)


def _metadata_wanted(request: Request) -> dict[str, str] | None:
    """Pairs that a job must have; None where it must have none at all (`metadata=null`)."""
    if request.query_params.get("metadata") == "null":
        return None
    return {
        name.removeprefix(_METADATA).removesuffix("]"): value
        for name, value in request.query_params.items()
        if name.startswith(_METADATA)
    }


async def _with_metadata(
    jobs: AsyncGenerator[pb.TrainingJob], wanted: dict[str, str] | None
) -> AsyncGenerator[pb.TrainingJob]:
    async with aclosing(jobs):
        async for job in jobs:
            has = dict(job.metadata)
            if (wanted is None and not has) or (
                wanted is not None and wanted.items() <= has.items()
            ):
                yield job


@router.get("/{job_id}")
async def get_job(job_id: str, client: ClientOf) -> FineTuningJob:
    """A job as it is now."""
    return job_view(await client.get_job(job_id))


@router.post("/{job_id}/cancel")
async def cancel_job(job_id: str, client: ClientOf) -> FineTuningJob:
    """End a job; its checkpoints stay."""
    return job_view(await _settled(client, await client.cancel_job(job_id)))


@router.post("/{job_id}/pause")
async def pause_job(job_id: str, client: ClientOf) -> FineTuningJob:
    """Stop a job with a checkpoint, or take it out of the queue, until it is resumed."""
    return job_view(await _settled(client, await client.pause_job(job_id)))


@router.post("/{job_id}/resume")
async def resume_job(job_id: str, client: ClientOf) -> FineTuningJob:
    """Queue a paused job again; it goes on from its newest checkpoint."""
    return job_view(await client.resume_job(job_id))


async def _settled(client: AsyncConnection, job: pb.TrainingJob) -> pb.TrainingJob:
    """The job once it has stopped, or as it is when that takes long."""
    if not is_unfinished(job):
        return job
    try:
        async with (
            asyncio.timeout(_SETTLING_SECONDS),
            aclosing(client.watch_job(job.id, job.last_event)) as events,
        ):
            async for event in events:
                if event.WhichOneof("kind") == "state_change":
                    break
    except TimeoutError:
        pass
    return await client.get_job(job.id)


@router.get("/{job_id}/events")
async def list_events(
    job_id: str, client: ClientOf, after: After = None, limit: Limit = 20
) -> ListOf[JobEvent]:
    """What happened to a job, newest first."""
    job = await client.get_job(job_id)
    # Numbers have no gaps: the page is known before anything is read.
    newest = job.last_event
    if after is not None:
        newest = min(newest, ids.event_number(after, job.id) - 1)
    oldest = max(newest - limit, 0)
    found = await _events_between(client, job.id, oldest, newest) if newest > oldest else []
    views = [event_view(event, job.id) for event in reversed(found)]
    return ListOf(data=views, has_more=oldest > 0 and bool(views))


async def _events_between(
    client: AsyncConnection, job_id: str, after: int, last: int
) -> list[pb.TrainingEvent]:
    found: list[pb.TrainingEvent] = []
    async with aclosing(client.watch_job(job_id, after)) as events:
        async for event in events:
            # Of a very long job the oldest are gone.
            if event.number <= last:
                found.append(event)
            if event.number >= last:
                break
    return found


@router.get("/{job_id}/checkpoints")
async def list_checkpoints(
    job_id: str, client: ClientOf, after: After = None, limit: Limit = 10
) -> ListOf[JobCheckpoint]:
    """A job's kept checkpoints, newest first; each can be chatted with."""
    job = await client.get_job(job_id)
    below = ids.checkpoint_step(after, job.id) if after is not None else None
    rest = [one for one in reversed(job.checkpoints) if below is None or one.step < below]
    views = [checkpoint_view(one, job.id) for one in rest[:limit]]
    ends = {"first_id": views[0].id, "last_id": views[-1].id} if views else {}
    return ListOf(data=views, has_more=len(rest) > limit, **ends)
