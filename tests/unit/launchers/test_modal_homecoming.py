"""What comes home from Modal, in an order in which nothing is told of that is not here."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("modal")

from corral.launchers.modal.sync import Homecoming
from corral.launchers.modal.volumes import RemoteFile, Volumes
from corral.run import CheckpointWritten
from corral.volume import Volume

EVENTS = "runs/job-1/a1/events.jsonl"


class RemoteFiles:
    """A volume of files in memory."""

    def __init__(self, **files: bytes) -> None:
        self.content = files

    async def files(self, name: str) -> list[RemoteFile]:
        return [RemoteFile(path, len(content)) for path, content in self.content.items()]

    async def read(self, name: str, path: str) -> bytes:
        return self.content[path]


async def test_an_event_waits_for_the_checkpoint_that_it_tells_of_until_the_run_is_over(
    tmp_path: Path,
) -> None:
    written = CheckpointWritten(time=1.0, step=2, folder="step-00000002-a1", seconds=0.1)
    told = b'{"kind":"other"}\n'
    volumes = RemoteFiles()
    volumes.content[EVENTS] = told + written.model_dump_json().encode() + b"\n"
    home = Volume(tmp_path)
    events = home.run("job-1", 1).events
    events.parent.mkdir(parents=True)
    homecoming = Homecoming(cast(Volumes, volumes), "volume", home, "job-1", 1)
    await homecoming.bring(is_over=False)
    assert events.read_bytes() == told
    await homecoming.bring(is_over=True)
    assert events.read_bytes() == volumes.content[EVENTS]
