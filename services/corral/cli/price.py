"""What a run comes to on Modal, said before anything starts.

The server plans the run; the prices are a table's. Knows nothing of how either is reckoned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corral.cli import output

if TYPE_CHECKING:
    from corral.client.connection import Connection
    from corral.spec import TrainingSpec

_MODAL = "modal"


def show_price(client: Connection, dataset_id: str, fields: dict[str, Any]) -> None:
    """An hour's price over the GPUs that the run may get, then the whole run's, then its budget;
    nothing where nobody bills. Raises as creating the job would.
    """
    if (fields.get("backend") or client.server_info().launcher) != _MODAL:
        return
    from corral.spec import parse_spec

    spec = parse_spec({**fields, "backend": _MODAL})
    _show_hour(spec)
    plan = client.plan_job(dataset_id, fields)
    if not plan.HasField("highest_cost"):
        return
    from corral.launchers.modal.prices import CostRange, dollars

    whole = CostRange(plan.lowest_cost, plan.highest_cost)
    output.say(f"The whole run: {whole} by its plan; starting a container comes on top.")
    if spec.max_cost is None:
        return
    output.say(f"It ends with a checkpoint once it has cost {dollars(spec.max_cost)}.")
    if spec.max_cost < plan.lowest_cost:
        output.say("That is less than the plan's lowest price: it will hardly reach its last step.")


def _show_hour(spec: TrainingSpec) -> None:
    from corral.launchers.modal.gpus import gpus_of
    from corral.launchers.modal.prices import TABLE, Machine, hourly_range
    from corral.settings import Settings

    settings, choices = Settings(), gpus_of(spec)
    price = hourly_range(choices, Machine(settings.modal_cpu, settings.modal_memory_mib))
    asked = ", else ".join(map(str, choices))
    if price is None:
        output.say(f"Modal: {asked}. Its price is not known here; see modal.com/pricing.")
    else:
        output.say(f"Modal: {asked}: {price} an hour ({TABLE.source}); waiting costs nothing.")
