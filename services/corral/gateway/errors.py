"""Errors as OpenAI's clients expect them: `{"error": {message, type, param, code}}` with their status.

Knows nothing of what was asked for.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from corral.errors import CorralError, DatasetError, Kind, PromptTooLongError

# What a client waits before it asks again where a server is busy or away.
RETRY_SECONDS = {Kind.EXHAUSTED: 1, Kind.UNAVAILABLE: 2}

_TYPES = {
    Kind.INVALID: "invalid_request_error",
    Kind.NOT_FOUND: "invalid_request_error",
    Kind.CONFLICT: "conflict_error",
    Kind.EXHAUSTED: "rate_limit_error",
    Kind.UNAVAILABLE: "server_error",
    Kind.TIMEOUT: "timeout_error",
    Kind.INTERNAL: "server_error",
}
# Where OpenAI has a code of its own that clients look for.
_CODES = {
    PromptTooLongError.code: "context_length_exceeded",
    DatasetError.code: "invalid_training_file",
}
_PARAM = re.compile(r"(?:^|not valid: )(?P<param>[a-z][a-z_0-9]*(?:\[\d+\])?(?:\.[a-z_0-9]+)*)[: ]")
# The status that web servers log for a client that did not wait.
CLIENT_LEFT = 499
# Types of pydantic's errors that corral.gateway.schemas.base raises.
UNSUPPORTED = "unsupported_parameter"
UNKNOWN = "unknown_parameter"

_log = structlog.stdlib.get_logger(__name__)


class ErrorInfo(BaseModel):
    """What was wrong. `param` names the field of the request, `code` is stable, for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorInfo


# For OpenAPI: any call may be refused so.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorResponse, "description": "What was asked for can't be done."},
    "5XX": {"model": ErrorResponse, "description": "Corral can't do it now."},
}


class UnsupportedError(CorralError):
    """A parameter of OpenAI's that Corral has nothing for; never ignored."""

    code = UNSUPPORTED
    kind = Kind.INVALID

    def __init__(self, param: str, why: str = "is not supported") -> None:
        super().__init__(f"{param}: {why}.", "docs/openai.md lists what is.")
        self.param = param


def info_of(error: CorralError) -> ErrorInfo:
    """An error of Corral's in OpenAI's shape."""
    kind = error.kind
    param = getattr(error, "param", None)
    if param is None and kind is Kind.INVALID:
        param = param_in(error.message)
    code = _CODES.get(error.code, error.code.lower())
    if code == "invalid_training_file":
        param = "training_file"
    return ErrorInfo(message=str(error), type=_TYPES[kind], param=param, code=code)


def param_in(message: str) -> str | None:
    """The field that a sentence such as `max_length: …` or `messages[2] …` is about."""
    found = _PARAM.search(message)
    if found is None or not re.search(r"[:\[]", found[0]):
        return None
    return found["param"]


def response_of(error: CorralError) -> JSONResponse:
    """The HTTP answer to a call that failed so."""
    headers = {}
    if error.kind in RETRY_SECONDS:
        headers["Retry-After"] = str(RETRY_SECONDS[error.kind])
    return _answer(error.kind.value.http_status, info_of(error), headers)


def unforeseen(error: Exception) -> CorralError:
    """A bug: the log gets the traceback under an incident id, the client that id alone."""
    incident = secrets.token_hex(4)
    _log.error("request failed", incident=incident, exc_info=error)
    return CorralError(
        f"The gateway failed in a way that nobody foresaw (incident {incident}).",
        f"Look for {incident} in the gateway's log, and report it.",
    )


def add_error_handlers(app: FastAPI) -> None:
    """Let no error leave the app in another shape."""

    async def corral_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, CorralError)
        return response_of(error)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _answer(400, _validation_info(error.errors()))

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        info = ErrorInfo(
            message=f"{request.method} {request.url.path}: {error.detail}.",
            type="invalid_request_error",
        )
        return _answer(error.status_code, info, error.headers)

    async def gone(request: Request, error: Exception) -> Response:
        # Nobody reads it; the figures do.
        return Response(status_code=CLIENT_LEFT)

    async def bug(request: Request, error: Exception) -> JSONResponse:
        return response_of(unforeseen(error))

    app.add_exception_handler(Exception, bug)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(CorralError, corral_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)


def _validation_info(problems: Sequence[Any]) -> ErrorInfo:
    """The first of pydantic's problems; the rest would say the same of other branches of a union."""
    problem = problems[0]
    path = [part for part in problem["loc"] if part not in ("body", "query", "path", "header")]
    param = str(problem.get("ctx", {}).get("param", "")) or _joined(path)
    kind, said = str(problem["type"]), str(problem["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        said, kind = f"Unrecognized request argument: {param}", UNKNOWN
    elif kind == "missing":
        said, kind = f"Missing required parameter: {param}", "missing_required_parameter"
    elif kind == "json_invalid":
        said, kind, param = f"The body is not JSON: {said}", "invalid_json", ""
    elif kind not in (UNSUPPORTED, UNKNOWN):
        said, kind = f"{param}: {said}" if param else f"The body: {said}", "invalid_value"
    return ErrorInfo(
        message=said.rstrip(".") + ".", type="invalid_request_error", param=param or None, code=kind
    )


def _joined(path: Sequence[str | int]) -> str:
    """`messages[0].content` from its parts."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _answer(status: int, info: ErrorInfo, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(ErrorResponse(error=info).model_dump(), status, dict(headers or {}))
