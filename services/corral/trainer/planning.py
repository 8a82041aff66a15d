"""Plans for this deployment's devices: what PlanTrainingJob answers, and what a job must pass before
it queues.

Knows nothing of gRPC, or of how a plan is reckoned.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace

from corral.errors import SpecError
from corral.launchers.modal.gpus import gpus_of, spread_over
from corral.launchers.modal.prices import CostRange, Machine, estimate
from corral.planning.devices import Device, gpu_named, local_gpu, this_machine
from corral.planning.plan import Plan, make_plan
from corral.settings import Settings
from corral.spec import TrainingSpec
from corral.trainer.admission import Admitted
from corral.trainer.measuring import Measuring

_CPU = "cpu"


@dataclass(frozen=True)
class Priced:
    """A plan, and where the run costs money, how much."""

    plan: Plan
    cost: CostRange | None = None


class Planner:
    """Plans what was admitted, for a device that is named or for what this deployment trains on."""

    def __init__(
        self, settings: Settings, measuring: Measuring, *, has_torch: bool | None = None
    ) -> None:
        """`has_torch` stands for what is installed here: without it, the workers of the local
        launcher train elsewhere, in a container of their own say, with another memory.
        """
        if has_torch is None:
            has_torch = importlib.util.find_spec("torch") is not None
        self._device_name = settings.training_device
        self._launcher = settings.launcher
        self._trains_here = settings.launcher == "local" and has_torch
        self._machine = Machine(settings.modal_cpu, settings.modal_memory_mib)
        self._measuring = measuring

    def device(self, name: str = "") -> Device | None:
        """The device of that name, or the deployment's own; None where nobody has said which.

        Raises SpecError for an unknown name.
        """
        name = name or self._device_name
        if name:
            return this_machine() if name == _CPU else gpu_named(name)
        if not self._trains_here:
            return None
        return local_gpu() or this_machine()

    async def plan(
        self, admitted: Admitted, device_name: str = "", *, measures: bool = True
    ) -> Priced:
        """The whole plan. On this machine it takes as long as a few real steps, unless `measures` is
        False; then the time is not known.

        Raises SpecError where the device is not known.
        """
        if self._is_on_modal(admitted.spec) and not device_name:
            return self._on_modal(admitted)
        return Priced(await self._on_device(admitted, self.device(device_name), measures))

    async def _on_device(self, admitted: Admitted, device: Device | None, measures: bool) -> Plan:
        if device is None:
            raise SpecError(
                "It is not known what this deployment trains on.",
                "Name a GPU with --gpu, or set CORRAL_TRAINING_DEVICE.",
            )
        plan = _plan(admitted, device)
        if plan.pace is not None or not plan.fits or not self._trains_here or device.is_gpu:
            return plan
        if not measures:
            return plan
        pace = await self._measuring.pace(admitted)
        return plan if pace is None else plan.with_pace(pace)

    def check(self, admitted: Admitted) -> None:
        """Raises JobTooLargeError with the numbers where a run can't fit; one whose device is not
        known passes.
        """
        if self._is_on_modal(admitted.spec):
            self._on_modal(admitted).plan.raise_if_too_large()
        elif (device := self.device()) is not None:
            _plan(admitted, device).raise_if_too_large()

    def _is_on_modal(self, spec: TrainingSpec) -> bool:
        return (spec.backend or self._launcher) == "modal"

    def _on_modal(self, admitted: Admitted) -> Priced:
        """The plan for the preferred GPU, or for the first that can't hold the run; the price over
        all that it may get.
        """
        choices = gpus_of(admitted.spec)
        plans = []
        for choice in choices:
            spread = replace(admitted, spec=spread_over(admitted.spec, choice))
            plans.append(_plan(spread, gpu_named(choice.model.name)))
        shown = next((plan for plan in plans if not plan.fits), plans[0])
        named = list(zip(map(str, choices), plans, strict=True))
        low = estimate({name: plan.shortest for name, plan in named}, choices, self._machine)
        high = estimate({name: plan.longest for name, plan in named}, choices, self._machine)
        if low is None or high is None:
            return Priced(shown)
        return Priced(shown, CostRange(low.low, high.high))


def _plan(admitted: Admitted, device: Device) -> Plan:
    tokens = admitted.tokens
    return make_plan(admitted.spec, admitted.shape, device, dict(tokens.histogram), tokens.trained)
