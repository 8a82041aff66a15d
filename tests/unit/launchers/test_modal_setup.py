"""Credentials for Modal, and whose volumes are whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.errors import BackendRefusedError

pytest.importorskip("modal")

from corral.launchers.modal.setup import credentials_of, deployment_id
from corral.settings import Settings

TOKEN = {"MODAL_TOKEN_ID": "ak-1", "MODAL_TOKEN_SECRET": "as-secret"}


def test_the_token_comes_from_the_environment_and_never_shows_its_secret() -> None:
    found = credentials_of(Settings(), TOKEN)
    assert (found.token_id, found.token_secret) == ("ak-1", "as-secret")
    assert "as-secret" not in repr(found)


@pytest.mark.parametrize("missing", list(TOKEN))
def test_half_a_token_is_refused_with_what_is_missing(missing: str) -> None:
    environment = {name: value for name, value in TOKEN.items() if name != missing}
    with pytest.raises(BackendRefusedError, match=missing) as caught:
        credentials_of(Settings(), environment)
    assert "modal token new" in caught.value.hint


def test_a_mounted_secret_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text('MODAL_TOKEN_ID=ak-2\nMODAL_TOKEN_SECRET="as-2"\n')
    found = credentials_of(Settings(modal_token_file=secret), {})
    assert (found.token_id, found.token_secret) == ("ak-2", "as-2")
    with pytest.raises(BackendRefusedError, match="can't be read"):
        credentials_of(Settings(modal_token_file=tmp_path / "nowhere"), {})


def test_a_data_folder_keeps_its_name_on_modal(tmp_path: Path) -> None:
    assert deployment_id(tmp_path / "a") == deployment_id(tmp_path / "a")
    assert deployment_id(tmp_path / "a") != deployment_id(tmp_path / "b")
