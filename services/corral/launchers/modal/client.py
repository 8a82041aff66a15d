"""The connection to Modal's API, and its errors as Corral's own.

Credentials are given, never looked up: whatever account this machine's owner has set up for modal
stays untouched. Knows nothing of jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
import grpclib.exceptions
import modal
from modal import exception as modal_errors

from corral.errors import BackendRefusedError, LaunchError, UnavailableError

# Longer than any single answer takes; transfers of files are not bound by it.
ANSWER_SECONDS = 60.0
# Modal's client would go on for a minute; somebody may sit there and wait.
_CONNECT_SECONDS = 10.0

_WHERE_TO_GET_ONE = (
    "Make one with `modal token new` or at modal.com/settings/tokens, and set MODAL_TOKEN_ID and "
    "MODAL_TOKEN_SECRET for the worker."
)
_UNREACHABLE = (
    modal_errors.ConnectionError,
    modal_errors.ServiceError,
    modal_errors.InternalError,
    modal_errors.InternalFailure,
    modal_errors.TimeoutError,
    aiohttp.ClientError,
    grpclib.exceptions.StreamTerminatedError,
    OSError,
    TimeoutError,
)


@dataclass(frozen=True)
class Credentials:
    """A Modal token. Its parts never appear in a log: `repr` leaves the secret out."""

    token_id: str
    token_secret: str = field(repr=False)


class Connection:
    """One client for this process, connected with the first use."""

    def __init__(self, credentials: Credentials, environment: str = "") -> None:
        self._credentials = credentials
        self._client: modal.Client | None = None
        self._lock = asyncio.Lock()
        # None: the account's default environment.
        self.environment = environment or None

    async def client(self) -> modal.Client:
        """Raises BackendRefusedError for a token that is none, UnavailableError without a network."""
        async with self._lock:
            if self._client is None or self._client.is_closed():
                with translated_errors("connecting"):
                    async with asyncio.timeout(_CONNECT_SECONDS):
                        self._client = await modal.Client.from_credentials.aio(
                            self._credentials.token_id, self._credentials.token_secret
                        )
            return self._client

    async def close(self) -> None:
        """Let go of the connection."""
        client, self._client = self._client, None
        if client is not None and not client.is_closed():
            await client.close.aio()


@contextmanager
def translated_errors(what: str) -> Iterator[None]:
    """Modal's errors, and those of the libraries below it, as errors of Corral's tree.

    UnavailableError is worth another try; the others need somebody to act. A FileNotFoundError and
    modal's NotFoundError pass: only the caller knows what it means that something is not there.
    """
    try:
        yield
    except (FileNotFoundError, modal_errors.NotFoundError):
        raise
    except modal_errors.AuthError as error:
        raise BackendRefusedError(
            f"Modal does not accept the token (while {what}): {_said(error)}.", _WHERE_TO_GET_ONE
        ) from error
    except modal_errors.PermissionDeniedError as error:
        raise BackendRefusedError(
            f"Modal does not allow this (while {what}): {_said(error)}.",
            "Use a token of a workspace member who may deploy apps and volumes.",
        ) from error
    except modal_errors.ResourceExhaustedError as error:
        raise BackendRefusedError(
            f"Modal's quota is used up (while {what}): {_said(error)}.",
            "Raise the workspace's limit or its budget at modal.com/settings/usage.",
        ) from error
    except modal_errors.VersionError as error:
        raise BackendRefusedError(
            f"Modal no longer accepts this version of its client: {_said(error)}.",
            "Update Corral.",
        ) from error
    except _UNREACHABLE as error:
        raise UnavailableError(
            f"Modal does not answer (while {what}): {_said(error)}.",
            "It is tried again. status.modal.com says whether it is Modal, else it is the network.",
        ) from error
    except modal_errors.Error as error:
        raise LaunchError(f"Modal refused (while {what}): {_said(error)}.") from error


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if not text:
        text = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return text.rstrip(".")[:300]
