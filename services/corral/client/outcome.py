"""How a job that did not succeed is told: as the error that it carries.

Knows nothing of how the job was fetched.
"""

from __future__ import annotations

from corral.errors import CorralError, TrainingCrashedError, all_errors


def failure_error(job_id: str, code: str, message: str) -> CorralError:
    """The error of a failed job, to be raised where it is waited for."""
    cls = all_errors().get(code, TrainingCrashedError)
    said = message or "The run ended without saying why."
    return cls(f"Job {job_id} failed: {said}", f"All of it: corral jobs show {job_id}")
