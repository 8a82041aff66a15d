"""What there is to train on: the GPUs that people rent, and this machine.

Figures of GPUs are the makers' data sheets (NVIDIA: T4, L4, A10, L40S, A100, H100, H200, B200, RTX PRO
6000 Blackwell; dense, without sparsity). Knows nothing of models or prices.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from corral.errors import SpecError

GIB = 1024**3
_DRIVER = Path("/proc/driver/nvidia")


@dataclass(frozen=True)
class Device:
    """One processor that a rank computes on.

    `memory` is bytes; `flops` multiply-adds counted as two, a second, in the type that training
    computes in: 0 where it is not known.
    """

    name: str
    memory: int
    flops: float = 0.0
    has_bf16: bool = True
    is_gpu: bool = True
    # Whether the ranks of one machine share `memory`.
    is_shared: bool = False


# Of the sheets' memory about 6 % is the driver's, CUDA's context and what ECC takes.
_USABLE = 0.94


def _gpu(name: str, gigabytes: int, teraflops: float, *, has_bf16: bool = True) -> Device:
    return Device(name, int(gigabytes * GIB * _USABLE), teraflops * 1e12, has_bf16)


GPUS: Mapping[str, Device] = MappingProxyType(
    {
        device.name: device
        for device in (
            # T4 has fp16 tensor cores only; Corral trains in fp32 there.
            _gpu("T4", 16, 8.1, has_bf16=False),
            _gpu("L4", 24, 121),
            _gpu("A10", 24, 125),
            _gpu("L40S", 48, 362),
            _gpu("A100-40GB", 40, 312),
            _gpu("A100-80GB", 80, 312),
            _gpu("RTX-PRO-6000", 96, 503),
            _gpu("H100", 80, 989),
            _gpu("H200", 141, 989),
            _gpu("B200", 180, 2250),
        )
    }
)


def gpu_named(name: str) -> Device:
    """A GPU of the table. Raises SpecError for one that is not in it."""
    device = GPUS.get(name.upper().removesuffix("!"))
    if device is None:
        raise SpecError(f"gpu: {name!r:.40} is not known.", f"Known are {', '.join(GPUS)}.")
    return device


def local_gpu(driver: Path = _DRIVER) -> Device | None:
    """The first GPU of this machine, where it has one that is in the table: the driver lists them."""
    for information in sorted(driver.glob("gpus/*/information")):
        model = information.read_text(encoding="utf-8", errors="replace").upper()
        words = model.partition("MODEL:")[2].partition("\n")[0].replace("-", " ").split()
        # "NVIDIA A100-SXM4-80GB" is A100-80GB; longer names first, so that L40S is not L4.
        for name in sorted(GPUS, key=len, reverse=True):
            if all(part in words for part in name.replace("-", " ").split()):
                return GPUS[name]
    return None


def this_machine(memory_limit: int | None = None) -> Device:
    """This machine's processors as one device whose memory the ranks share.

    `memory_limit` (bytes) stands for what the machine itself says.
    """
    return Device(
        "cpu", memory_limit or _memory(), has_bf16=_has_bf16(), is_gpu=False, is_shared=True
    )


def _memory() -> int:
    """Bytes that processes may use: the machine's, or less where a container has a limit."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit_file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return min(physical, int(Path(limit_file).read_text()))
        # Absent, or the word "max".
        except (OSError, ValueError):
            continue
    return physical


def _has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags
