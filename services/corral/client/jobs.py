"""Calls about training jobs: plan, create, list, watch, cancel, pause, resume, delete.

Knows nothing of how jobs are run or shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from corral.client.channels import Channels, ignore
from corral.client.paging import all_pages
from corral.client.retrying import ENDED_EARLY_SECONDS, LOST, Patience
from corral.client.wire import END_STATES
from corral.errors import CorralError
from corral.rpc.channel import translated_errors
from corral.v1 import trainer_pb2


class JobCalls(Channels):
    """What a client can ask of the trainer's jobs."""

    def plan_job(
        self, dataset_id: str, spec: Mapping[str, Any], device: str = ""
    ) -> trainer_pb2.TrainingPlan:
        """What a job would take, on a named GPU or on what the server trains on."""
        request = trainer_pb2.PlanTrainingJobRequest(
            dataset_id=dataset_id, spec=trainer_pb2.TrainingSpec(**spec), device=device
        )
        with translated_errors(self.address):
            answer: trainer_pb2.PlanTrainingJobResponse = self._trainer.PlanTrainingJob(request)
        return answer.plan

    def create_job(
        self,
        dataset_id: str,
        spec: Mapping[str, Any],
        idempotency_key: str,
        metadata: Mapping[str, str] | None = None,
    ) -> trainer_pb2.TrainingJob:
        """Queue a job with the given fields of a training spec; the server fills in the others.

        A connection that is lost meanwhile is tried again: the key makes it one job.
        """
        request = trainer_pb2.CreateTrainingJobRequest(
            dataset_id=dataset_id,
            spec=trainer_pb2.TrainingSpec(**spec),
            idempotency_key=idempotency_key,
            metadata=metadata,
        )
        answer: trainer_pb2.CreateTrainingJobResponse = self._patiently(
            lambda: self._trainer.CreateTrainingJob(request)
        )
        return answer.job

    def get_job(self, job_id: str, seconds: float | None = None) -> trainer_pb2.TrainingJob:
        """The job now. Raises JobNotFoundError."""
        request = trainer_pb2.GetTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            answer: trainer_pb2.GetTrainingJobResponse = self._trainer.GetTrainingJob(
                request, timeout=seconds
            )
        return answer.job

    def iterate_jobs(
        self, states: Sequence[str] = (), limit: int | None = None
    ) -> Iterator[trainer_pb2.TrainingJob]:
        """Jobs, newest first; states as JOB_STATE_RUNNING, none for all."""

        def page(token: str, size: int) -> tuple[Sequence[trainer_pb2.TrainingJob], str]:
            request = trainer_pb2.ListTrainingJobsRequest(
                page_size=size, page_token=token, states=states
            )
            with translated_errors(self.address):
                answer: trainer_pb2.ListTrainingJobsResponse = self._trainer.ListTrainingJobs(
                    request
                )
            return answer.jobs, answer.next_page_token

        return all_pages(page, limit)

    def list_jobs(self, limit: int, states: Sequence[str] = ()) -> list[trainer_pb2.TrainingJob]:
        """The newest jobs, at most `limit`, newest first; states as JOB_STATE_RUNNING."""
        return list(self.iterate_jobs(states, limit))

    def cancel_job(self, job_id: str) -> trainer_pb2.TrainingJob:
        """Ask for the job's end; returns it as it is right after."""
        request = trainer_pb2.CancelTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            answer: trainer_pb2.CancelTrainingJobResponse = self._trainer.CancelTrainingJob(request)
        return answer.job

    def pause_job(self, job_id: str) -> trainer_pb2.TrainingJob:
        """Ask the job to stop with a checkpoint and to wait; returns it as it is right after."""
        request = trainer_pb2.PauseTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            answer: trainer_pb2.PauseTrainingJobResponse = self._trainer.PauseTrainingJob(request)
        return answer.job

    def resume_job(self, job_id: str) -> trainer_pb2.TrainingJob:
        """Queue a paused job again; it goes on from its newest checkpoint."""
        request = trainer_pb2.ResumeTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            answer: trainer_pb2.ResumeTrainingJobResponse = self._trainer.ResumeTrainingJob(request)
        return answer.job

    def delete_job(self, job_id: str) -> None:
        """Remove an ended job with its checkpoints and logs."""
        request = trainer_pb2.DeleteTrainingJobRequest(job_id=job_id)
        with translated_errors(self.address):
            self._trainer.DeleteTrainingJob(request)

    def watch_job(
        self, job_id: str, after: int = 0, on_lost: Callable[[CorralError], None] = ignore
    ) -> Iterator[trainer_pb2.TrainingEvent]:
        """Every event of the job after a number, each once, until its end.

        When the connection is lost, `on_lost` hears it once, and the watch goes on behind the last
        event when the server answers again. Raises UnavailableError after the client's patience.
        """
        patience = Patience(self.patience_seconds)
        while True:
            try:
                for event in self._watch_once(job_id, after):
                    after = event.number
                    patience.renew()
                    yield event
                    if event.state_change.state in END_STATES:
                        return
                # A server that shuts down may end the stream as if all was said.
                if self.get_job(job_id).state in END_STATES:
                    return
                patience.renew()
                pause = ENDED_EARLY_SECONDS
            except LOST as lost:
                pause = patience.pause_after(lost)
                if patience.losses == 1:
                    on_lost(lost)
            time.sleep(pause)

    def _watch_once(self, job_id: str, after: int) -> Iterator[trainer_pb2.TrainingEvent]:
        request = trainer_pb2.WatchTrainingJobRequest(job_id=job_id, after_event=after)
        with translated_errors(self.address):
            call = self._trainer.WatchTrainingJob(request)
            try:
                for response in call:
                    yield response.event
            finally:
                call.cancel()
