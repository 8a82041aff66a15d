"""A ModalLauncher from the settings of the process. Knows nothing of runs.

The token comes from MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or from the file that
CORRAL_MODAL_TOKEN_FILE names (a mounted secret) with a line for each: NAME=value. It is never logged.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from corral.errors import BackendRefusedError
from corral.launchers.modal.client import Connection, Credentials
from corral.launchers.modal.launcher import ModalLauncher
from corral.launchers.modal.prices import Machine
from corral.launchers.modal.spawning import ModalOptions
from corral.launchers.supervise import create
from corral.settings import Settings

TOKEN_ID, TOKEN_SECRET = "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"
_DEPLOYMENT_FILE = "modal-deployment.json"


def modal_launcher(
    settings: Settings, environment: Mapping[str, str] = os.environ
) -> ModalLauncher:
    """The launcher for the account of the token.

    Raises BackendRefusedError where there is no token. Nothing is asked of Modal yet.
    """
    options = ModalOptions(
        data=settings.data.expanduser(),
        deployment=deployment_id(settings.data.expanduser()),
        machine=machine_of(settings),
        stop_seconds=settings.stop_seconds,
    )
    return ModalLauncher(connection_of(settings, environment), options)


def connection_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> Connection:
    """A connection that is made with the first use. Raises BackendRefusedError without a token."""
    return Connection(credentials_of(settings, environment), settings.modal_environment)


def machine_of(settings: Settings) -> Machine:
    """What each container gets besides GPUs."""
    return Machine(settings.modal_cpu, settings.modal_memory_mib)


def credentials_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> Credentials:
    """The token. Raises BackendRefusedError where there is none, or only half of one."""
    found = {**environment, **_in_file(settings.modal_token_file)}
    token_id, token_secret = found.get(TOKEN_ID, "").strip(), found.get(TOKEN_SECRET, "").strip()
    if not token_id or not token_secret:
        missing = TOKEN_ID if not token_id else TOKEN_SECRET
        raise BackendRefusedError(
            f"There is no Modal token: {missing} is not set.",
            f"Make one with `modal token new` or at modal.com/settings/tokens, and set {TOKEN_ID} and "
            f"{TOKEN_SECRET} for the worker.",
        )
    return Credentials(token_id, token_secret)


def deployment_id(data: Path) -> str:
    """Eight hex digits that tell this data folder's volumes from those of others. Made once."""
    path = data / _DEPLOYMENT_FILE
    if not path.is_file():
        data.mkdir(parents=True, exist_ok=True)
        create(path, {"deployment": secrets.token_hex(4)})
    return str(json.loads(path.read_bytes())["deployment"])


def _in_file(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BackendRefusedError(
            f"CORRAL_MODAL_TOKEN_FILE: {path} can't be read: {error.strerror}."
        ) from error
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
