"""What Modal bills: US dollars a second for GPUs, CPU cores and memory, and what a run comes to.

The account's own rates come first. The table below stands in where they can't be had; it says how
old it is. Knows nothing of calls or jobs, and does not import modal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from corral.errors import SpecError
from corral.launchers.modal.gpus import GpuChoice, parse_gpus

SECONDS_PER_HOUR = 3600.0
# Volumes are billed by the GiB and month beyond the first TiB of a workspace (modal.com/pricing).
VOLUME_GIB_MONTH = 0.09

# The names of an account's rates, and whether they are per second or per hour, are no public
# promise: a rate so far from the table's is taken for something else.
_BELIEVED_FACTOR = 4.0


@dataclass(frozen=True)
class Machine:
    """What a container has besides its GPUs: physical cores, and MiB of memory."""

    cpu: float
    memory_mib: int


@dataclass(frozen=True)
class Rates:
    """Prices in US dollars a second, and where they come from."""

    source: str
    gpu: Mapping[str, float]
    cpu_core: float
    memory_gib: float

    def per_second(self, choice: GpuChoice, machine: Machine) -> float | None:
        """One container with these GPUs; None where the price of the GPU is not known."""
        gpu = self.gpu.get(choice.model.name.rstrip("!"))
        if gpu is None:
            return None
        rest = machine.cpu * self.cpu_core + machine.memory_mib / 1024 * self.memory_gib
        return gpu * choice.count + rest

    def by_name(self, gpus: Iterable[str], machine: Machine) -> dict[str, float]:
        """The price of each of these (`A10:2`) that has a known one."""
        found = {gpu: self.per_second(parse_gpus(gpu)[0], machine) for gpu in gpus}
        return {gpu: rate for gpu, rate in found.items() if rate is not None}

    def per_hour(self, choice: GpuChoice, machine: Machine) -> float | None:
        """The same for an hour."""
        rate = self.per_second(choice, machine)
        return None if rate is None else rate * SECONDS_PER_HOUR


TABLE = Rates(
    source="modal.com/pricing as of October 2026",
    gpu={
        "T4": 0.000164,
        "L4": 0.000222,
        "A10": 0.000306,
        "L40S": 0.000542,
        "A100-40GB": 0.000583,
        "A100-80GB": 0.000694,
        "H100": 0.001097,
        "H200": 0.001261,
        "B200": 0.001736,
    },
    cpu_core=0.0000131,
    memory_gib=0.00000222,
)


@dataclass(frozen=True)
class CostRange:
    """US dollars, from the cheapest to the dearest alternative."""

    low: float
    high: float

    def __str__(self) -> str:
        low, high = dollars(self.low), dollars(self.high)
        return low if low == high else f"{low} to {high}"


def hourly_range(
    choices: Sequence[GpuChoice], machine: Machine, rates: Rates = TABLE
) -> CostRange | None:
    """The price of an hour over the alternatives; None where one of them has no known price."""
    return estimate(dict.fromkeys(map(str, choices), SECONDS_PER_HOUR), choices, machine, rates)


def estimate(
    seconds: Mapping[str, float],
    choices: Sequence[GpuChoice],
    machine: Machine,
    rates: Rates = TABLE,
) -> CostRange | None:
    """What a run comes to that takes so many seconds on each of the alternatives (by `str(choice)`).

    None where the price of one of them is not known.
    """
    costs: list[float] = []
    for choice in choices:
        rate = rates.per_second(choice, machine)
        if rate is None:
            return None
        costs.append(rate * seconds[str(choice)])
    return CostRange(min(costs), max(costs))


def check_budget(
    max_cost: float | None, choices: Sequence[GpuChoice], rates: Rates = TABLE
) -> None:
    """Raises SpecError for a budget over GPUs whose price nobody knows."""
    unknown = [c for c in choices if c.model.name.rstrip("!") not in rates.gpu]
    if max_cost is not None and unknown:
        raise SpecError(
            f"max_cost: the price of {unknown[0].model.name} is not known here, so no budget can "
            "be kept.",
            "Take another GPU, or leave max_cost out.",
        )


def with_account_rates(found: Mapping[str, float], table: Rates = TABLE) -> Rates:
    """The table with every price that the account's own rates replace.

    `found` is what `Workspace.billing.rates()` gives: numbers under names like `gpu_h100`.
    """
    plain = {_plain(name): float(value) for name, value in found.items()}
    gpu = {name: _believed(plain, _plain(name), usd) for name, usd in table.gpu.items()}
    rates = replace(
        table,
        gpu={name: table.gpu[name] if usd is None else usd for name, usd in gpu.items()},
        cpu_core=_believed(plain, "cpu", table.cpu_core) or table.cpu_core,
        memory_gib=_believed(plain, "memory", table.memory_gib) or table.memory_gib,
    )
    has_any = any(usd is not None for usd in gpu.values())
    return replace(rates, source="your Modal account's rates") if has_any else table


def dollars(amount: float) -> str:
    """`$1.23`, and more digits below ten cents."""
    return f"${amount:.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.4f}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _believed(found: Mapping[str, float], name: str, usual: float) -> float | None:
    """The rate under a name that ends so, per second, if it is near what is usual."""
    for key, value in found.items():
        if key.endswith(name) and "sandbox" not in key:
            for rate in (value, value / SECONDS_PER_HOUR):
                if usual / _BELIEVED_FACTOR <= rate <= usual * _BELIEVED_FACTOR:
                    return rate
    return None
