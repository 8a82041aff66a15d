"""`corral modal volumes` and `clean` against a double of Modal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.modal_double.server import ModalDouble
from tests.modal_launchers import DEPLOYMENT, modal_launcher, write_rows

pytest.importorskip("modal")

from tests.conformance.launcher import described

from corral.launchers.modal.client import Connection, Credentials
from corral.launchers.modal.leftovers import Leftovers


async def test_what_is_left_is_listed_and_deleted_with_what_works_on_it(
    double: ModalDouble, tmp_path: Path
) -> None:
    write_rows(tmp_path)
    run_file = tmp_path / "runs" / "job-1" / "a1" / "run.json"
    run_file.parent.mkdir(parents=True)
    run_file.write_text('{"do": "work"}')
    launcher = modal_launcher(double, tmp_path)
    double.trouble.hold_queue()
    await launcher.start(run_file, described(run_file))
    connection = Connection(Credentials(double.token_id, double.token_secret))
    leftovers = Leftovers(connection, DEPLOYMENT)
    async with asyncio.timeout(20):
        # The launcher says on the volume which call it is, soon after.
        while not (await leftovers.find())[0].call:
            continue
    [found] = await leftovers.find()
    assert (found.job, found.is_ours) == ("job-1", True)
    assert found.size_bytes > 0
    assert found.call in double.function_calls
    await leftovers.remove([found])
    assert await leftovers.find() == []
    assert double.function_calls[found.call].finished.is_set()
    await connection.close()
    await launcher.close()
