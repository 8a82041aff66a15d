"""A full volume is said in our words, whoever noticed it."""

from __future__ import annotations

import errno

import pytest
from safetensors import SafetensorError

from corral.errors import StorageFailedError, StorageFullError
from corral.storage import storage_errors


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_left_is_said_in_our_words(number: int) -> None:
    with (
        pytest.raises(StorageFullError, match="on the volume for step 3"),
        storage_errors("step 3"),
    ):
        raise OSError(number, "No space left on device")


def test_safetensors_own_error_for_a_full_disk_counts_too() -> None:
    # As safetensors 0.8 raises it on a full tmpfs.
    error = SafetensorError("I/O error: No space left on device (os error 28)")
    with pytest.raises(StorageFullError), storage_errors("step 3"):
        raise error


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ESTALE])
def test_a_volume_that_does_not_work_is_said_too(number: int) -> None:
    with pytest.raises(StorageFailedError, match="at step 3"), storage_errors("step 3"):
        raise OSError(number, "the system's words")


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        SafetensorError("I/O error: Permission denied (os error 13)"),
        SafetensorError("the header is not JSON"),
        ValueError("os error 28"),
    ],
)
def test_other_errors_are_not_taken_for_a_full_disk(error: Exception) -> None:
    with pytest.raises(type(error)), storage_errors("step 3"):
        raise error
