"""How long a run takes: from a measurement on this machine, or from a GPU's data sheet.

A sheet's figure is a bound that no real run reaches, so what comes from one is a range. Knows nothing
of memory or data.
"""

from __future__ import annotations

from dataclasses import dataclass

from corral.planning.devices import Device
from corral.planning.shapes import ModelShape

# Model FLOPs utilisation, the share of a GPU's peak that training reaches. PaLM (Chowdhery et al.
# 2022, table 3) reports 46 % and lists 20 to 33 % for the large models before it; llm.c trains GPT-2
# 124M on A100s at about 60 %. Short rows and small models lie lower: hence the wide range.
LOWEST_UTILISATION = 0.15
HIGHEST_UTILISATION = 0.50
# Loading the model and preparing the data, besides the steps.
_MEASURED_SPREAD = 0.15


@dataclass(frozen=True)
class Pace:
    """Tokens a second of one rank, at worst and at best."""

    lowest: float
    highest: float
    # "measured" on this machine, or the "data sheet" of a GPU.
    source: str

    @classmethod
    def measured(cls, tokens_per_second: float) -> Pace:
        """What a few real steps showed; longer runs differ by what else the machine does."""
        spread = 1 + _MEASURED_SPREAD
        return cls(tokens_per_second / spread, tokens_per_second * spread, "measured")

    def seconds(self, tokens: float, ranks: int) -> tuple[float, float]:
        """The shortest and the longest time for so many tokens, spread evenly over the ranks."""
        return tokens / (self.highest * ranks), tokens / (self.lowest * ranks)


def pace_on(
    device: Device, shape: ModelShape, mean_length: float, label_share: float, recomputes: bool
) -> Pace | None:
    """The pace on a device of the table; None where its speed is not known."""
    if not device.flops:
        return None
    work = flops_per_token(shape, mean_length, label_share) * (4 / 3 if recomputes else 1)
    lowest, highest = (device.flops * u / work for u in (LOWEST_UTILISATION, HIGHEST_UTILISATION))
    return Pace(lowest, highest, "data sheet")


def flops_per_token(shape: ModelShape, mean_length: float, label_share: float) -> float:
    """Floating-point operations of a training step for each token.

    Forward and backward together are three forward passes, each two operations a weight (Kaplan et
    al. 2020, section 2.1). Attention adds scores and values over the half of the row that a token
    sees on average; the head runs on label tokens only.
    """
    weights = shape.layers * shape.layer_matrix_parameters
    head = shape.vocabulary * shape.hidden * label_share
    attention = shape.layers * 2 * shape.heads * shape.head_dim * mean_length / 2
    return 6 * (weights + head + attention)
