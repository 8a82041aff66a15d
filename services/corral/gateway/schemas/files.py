"""Files: data sets as OpenAI's clients see them.

Knows nothing of how they are stored.
"""

from __future__ import annotations

from typing import Literal

from corral.gateway.schemas.base import View


class RowProblemView(View):
    """A row that can't be trained on, or probably not as meant. `row` is from 0, `line` from 1."""

    row: int
    line: int
    field: str
    code: str
    message: str
    excerpt: str
    severity: Literal["warning", "error"]


class FileReport(View):
    """What checking every row found; ours, beside OpenAI's fields."""

    dataset_id: str
    format: str
    rows: int
    usable_rows: int
    problem_count: int
    # The first of them.
    problems: list[RowProblemView]


class FileObject(View):
    """A file. `status` is "error" where a row can't be trained on; `status_details` says which."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["fine-tune"] = "fine-tune"
    status: Literal["uploaded", "processed", "error"]
    expires_at: int | None = None
    status_details: str | None = None
    corral: FileReport
