"""How fast this machine trains, measured by a few real steps in a process of their own.

That process is the training half's `python -m corral.training.measure`; where torch is not installed,
or the model's weights are not here yet, nothing is measured. Knows nothing of plans.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from typing import Any

import structlog

from corral.bases import find_base
from corral.errors import CorralError
from corral.launchers.torchrun import ENVIRONMENT
from corral.planning.pace import Pace
from corral.run import TrainingRun
from corral.trainer.admission import Admitted
from corral.volume import Volume

# Loading torch and a model, and a few steps of it, on a slow machine.
_LONGEST_SECONDS = 120.0
# What decides the pace; other fields of a spec do not.
_DECIDING = (
    "model",
    "precision",
    "tuning",
    "lora_rank",
    "batch_size",
    "max_length",
    "packing",
    "gradient_checkpointing",
    "compile",
    "processes",
)

_log = structlog.stdlib.get_logger(__name__)


class Measuring:
    """Measures one run at a time, and remembers what it has measured."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._turn = asyncio.Lock()
        self._known: dict[tuple[Any, ...], Pace] = {}

    async def pace(self, admitted: Admitted) -> Pace | None:
        """The pace of one rank; None where it could not be measured."""
        key = (admitted.dataset_id, *(getattr(admitted.spec, name) for name in _DECIDING))
        async with self._turn:
            if key not in self._known:
                if not await asyncio.to_thread(self._can_measure, admitted.spec.model):
                    return None
                measured = await self._measure(admitted)
                if measured is None:
                    return None
                self._known[key] = Pace.measured(measured)
        return self._known[key]

    def _can_measure(self, model: str) -> bool:
        if importlib.util.find_spec("torch") is None:
            return False
        try:
            # A plan is no reason to download gigabytes.
            find_base(model, self._volume, download=False)
        except CorralError:
            return False
        return True

    async def _measure(self, admitted: Admitted) -> float | None:
        """Tokens a second of one rank, with as many threads as it would have."""
        spec = admitted.spec
        run = TrainingRun(job_id="plan", attempt=1, dataset_id=admitted.dataset_id, spec=spec)
        threads = max(1, (os.cpu_count() or 1) // spec.processes)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "corral.training.measure", str(self._volume.root)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"OMP_NUM_THREADS": str(threads), **ENVIRONMENT, **os.environ},
        )
        err = b""
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                out, err = await process.communicate(run.model_dump_json().encode())
            return float(json.loads(out.decode().splitlines()[-1])["tokens_per_second"])
        except (TimeoutError, ValueError, IndexError, KeyError, TypeError) as error:
            said = err.decode(errors="replace").strip()[-500:]
            _log.warning("pace not measured", error=str(error) or "took too long", said=said)
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
