"""How records look in Redis: hashes and stream entries to values and back, and page tokens.

A job is a hash of short strings, JSON where a value has parts; `None` is an empty string or no
field. Knows the names of the fields, which the scripts share, and no connection.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from corral.errors import InvalidRequestError
from corral.jobs.records import (
    Event,
    EventBody,
    Failure,
    Job,
    JobState,
    Measured,
    Progress,
    PublishedCheckpoint,
    Spending,
    Spent,
    Submission,
)
from corral.spec import TrainingSpec

_CHECKPOINT_PREFIX = "checkpoint:"
_TOKEN = re.compile(r"jobs-before-(\d{1,17})")


def pairs(flat: Sequence[str]) -> dict[str, str]:
    """What HGETALL gives inside a script (name, value, name, value, …) as a dictionary."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def job_of(fields: Mapping[str, str]) -> Job:
    """A job's hash as a value."""
    return Job(
        id=fields["id"],
        state=JobState(fields["state"]),
        spec=TrainingSpec.model_validate_json(fields["spec"]),
        dataset_id=fields["dataset_id"],
        attempt=int(fields["attempt"]),
        strikes=int(fields["strikes"]),
        handle=fields.get("handle", ""),
        worker=fields.get("worker", ""),
        progress=_progress(fields.get("progress", "")),
        failure=_failure(fields.get("failure", "")),
        checkpoints=_checkpoints(fields),
        created_at=float(fields["created_at"]),
        started_at=_number(fields.get("started_at", "")),
        finished_at=_number(fields.get("finished_at", "")),
        last_event=int(fields["last_event"]),
        spending=_spending(fields.get("spending", "")),
        metadata=json.loads(fields.get("metadata", "") or "{}"),
    )


def event_of(entry_id: str, fields: Mapping[str, str]) -> Event:
    """A stream's entry as a value. Its id is `<number>-0`."""
    return Event.model_validate_json(
        f'{{"number":{entry_id.partition("-")[0]},"time":{fields["time"]},'
        f'"attempt":{fields["attempt"]},"body":{fields["body"]}}}'
    )


def fingerprint(submission: Submission) -> str:
    """Hex digest of what was asked for: two requests are the same when theirs are."""
    asked = f"{submission.dataset_id}\n{submission.spec.model_dump_json()}"
    if submission.metadata:
        asked += f"\n{json.dumps(submission.metadata, sort_keys=True)}"
    return hashlib.sha256(asked.encode()).hexdigest()


def newest_progress(bodies: Sequence[EventBody]) -> Progress | None:
    """The progress of the last measurement among some events."""
    measured = [body.progress for body in bodies if isinstance(body, Measured)]
    return measured[-1] if measured else None


def newest_spending(bodies: Sequence[EventBody]) -> Spending | None:
    """What a job has spent by the last of some events that says it."""
    spent = [body for body in bodies if isinstance(body, Spent)]
    return Spending(**spent[-1].model_dump()) if spent else None


def token_before(rank: str) -> str:
    """The page token that goes on below a rank (microseconds since the epoch, unique)."""
    return base64.urlsafe_b64encode(f"jobs-before-{rank}".encode()).decode()


def rank_of(token: str) -> str:
    """The rank in a page token. Raises InvalidRequestError for a token that is none of ours."""
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    found = _TOKEN.fullmatch(text)
    if found is None:
        raise InvalidRequestError(
            f"{token!r:.80} is not a page token of this list.",
            "Pass the next_page_token of the page before, or none for the first page.",
        )
    return found[1]


def _checkpoints(fields: Mapping[str, str]) -> tuple[PublishedCheckpoint, ...]:
    found = [
        PublishedCheckpoint.model_validate_json(value)
        for name, value in fields.items()
        if name.startswith(_CHECKPOINT_PREFIX)
    ]
    return tuple(sorted(found, key=lambda checkpoint: checkpoint.step))


def _progress(text: str) -> Progress | None:
    return Progress.model_validate_json(text) if text else None


def _spending(text: str) -> Spending | None:
    return Spending.model_validate_json(text) if text else None


def _failure(text: str) -> Failure | None:
    return Failure.model_validate_json(text) if text else None


def _number(text: str) -> float | None:
    return float(text) if text else None
