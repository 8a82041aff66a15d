"""`corral plan`: what a job would take, before anything is spent.

Knows nothing of how a plan is made: the server makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral import formatting
from corral.cli import output
from corral.cli.flags import JsonFlag, ServerFlag, connect
from corral.cli.sending import DataArgument, dataset_of
from corral.cli.spec_flags import flag_name, given, with_spec_flags
from corral.errors import InvalidRequestError, JobTooLargeError

if TYPE_CHECKING:
    from corral.v1 import trainer_pb2

_MODAL = "modal"
_PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "saving", "runtime")


@with_spec_flags
def plan(
    file: DataArgument,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="GPU",
            help="Plan for this GPU, e.g. A100-80GB, for two of them with A100-80GB:2, or for cpu."
            " Default: what the server trains on. With --on modal as `corral train` takes it.",
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Short for --processes.", show_default=False)
    ] = None,
    server: ServerFlag = None,
    as_json: JsonFlag = False,
    **fields: Any,
) -> None:
    """Say what training on FILE would take: steps, memory, time, disk, and whether it fits.

    Takes the flags of `corral train`. Exit code 2 when the run does not fit.
    """
    from corral.cli.plain import to_plain
    from corral.cli.train import spec_of

    asked = planned_on(given({**fields, "gpu": gpu}), gpus)
    device, spec = asked.device, spec_of(asked.fields)
    with connect(server) as client:
        dataset = dataset_of(client, file)
        with output.waiting("Planning. The first plan for a device or a model may measure it ..."):
            found = client.plan_job(dataset.id, spec, device)
    if as_json:
        output.result_json(to_plain(found))
    else:
        output.result(output.fields(_summary(found)))
        if found.proposals:
            output.result("")
            output.result(_proposals(found))
    if not found.fits:
        raise typer.Exit(JobTooLargeError.kind.value.exit_code)


@dataclass(frozen=True)
class Asked:
    """A spec's fields, and the device to plan for; empty: the server's."""

    fields: dict[str, Any]
    device: str = ""


def planned_on(fields: dict[str, Any], gpus: int | None) -> Asked:
    """What --gpu and --gpus ask for: on Modal the spec's own field, elsewhere only a device.

    Raises InvalidRequestError where the number of processes is given twice, and not the same.
    """
    asked = Asked(dict(fields))
    if fields.get("backend") != _MODAL and "gpu" in fields:
        device, _, number = asked.fields.pop("gpu").partition(":")
        asked = Asked(asked.fields, device)
        _add_processes(asked.fields, number, "--gpu")
    _add_processes(asked.fields, "" if gpus is None else str(gpus), "--gpus")
    return asked


def _add_processes(fields: dict[str, Any], number: str, flag: str) -> None:
    if not number:
        return
    if not number.isdecimal() or int(number) < 1:
        raise InvalidRequestError(
            f"{flag}: {number!r:.20} is not a number of GPUs.", "Write it as --gpu A100-80GB:2."
        )
    if fields.setdefault("processes", int(number)) != int(number):
        raise InvalidRequestError(
            f"{flag} says {number} processes, another flag {fields['processes']}.", "Say it once."
        )


def _summary(plan: trainer_pb2.TrainingPlan) -> list[tuple[str, str]]:
    spec = plan.spec
    batch = (
        f"{spec.batch_size} x {spec.gradient_accumulation_steps} accumulated x "
        f"{formatting.count(spec.processes, 'process', 'processes')}"
    )
    lines = [
        ("model", f"{spec.model}, {_parameters(plan)}"),
        ("data", _rows(plan)),
        ("batch", batch),
        (
            "steps",
            f"{plan.steps:,}, {plan.tokens:,} tokens, {plan.label_share:.0%} of them trained on",
        ),
        ("waste", f"{plan.padding_waste:.0%} if padded, {plan.packing_waste:.1%} packed"),
        ("memory", _memory(plan)),
        ("", _parts(plan.memory)),
        ("largest batch", f"{plan.largest_batch_size:,} examples in a forward pass would fit"),
        ("time", _time(plan)),
    ]
    if plan.HasField("highest_cost"):
        lines.append(("price", f"{plan.lowest_cost:.2f} to {plan.highest_cost:.2f} US dollars"))
    size = formatting.size(plan.checkpoint_size)
    lines.append(("disk", f"{formatting.size(plan.disk)}, {size} a checkpoint"))
    return lines


def _parameters(plan: trainer_pb2.TrainingPlan) -> str:
    if plan.trainable_parameters == plan.parameters:
        return f"{plan.parameters:,} parameters"
    return f"{plan.parameters:,} parameters, {plan.trainable_parameters:,} of them trained"


def _rows(plan: trainer_pb2.TrainingPlan) -> str:
    rows = formatting.count(plan.rows, "row")
    return f"{rows}, {plan.held_out_rows:,} held out" if plan.held_out_rows else rows


def _memory(plan: trainer_pb2.TrainingPlan) -> str:
    needed, there = formatting.size(plan.needed), formatting.size(plan.device_memory)
    verdict = "fits" if plan.fits else "does NOT fit"
    return f"{needed} of the {there} of {plan.device}: {verdict}"


def _parts(memory: trainer_pb2.MemoryPlan) -> str:
    sizes = {part: getattr(memory, part) for part in _PARTS}
    return ", ".join(f"{part} {formatting.size(size)}" for part, size in sizes.items() if size)


def _time(plan: trainer_pb2.TrainingPlan) -> str:
    if not plan.time_source:
        return "not known: nothing was measured, and there is no data sheet"
    shortest = formatting.duration(plan.shortest.ToTimedelta().total_seconds())
    longest = formatting.duration(plan.longest.ToTimedelta().total_seconds())
    how = {"measured": "measured here"}.get(plan.time_source, f"from the {plan.time_source}")
    return f"{shortest} to {longest}, {how}"


def _proposals(plan: trainer_pb2.TrainingPlan) -> str:
    from corral.cli.plain import to_plain

    def flags(proposal: trainer_pb2.PlanProposal) -> str:
        fields = to_plain(proposal.changes)
        return " ".join(
            flag_name(name) if value is True else f"{flag_name(name)} {value}"
            for name, value in fields.items()
            if value is not None
        )

    return output.table(
        ("instead", "flags", "memory", "fits"),
        [
            (
                proposal.description,
                flags(proposal),
                formatting.size(proposal.memory.total),
                "yes" if proposal.fits else "no",
            )
            for proposal in plan.proposals
        ],
    )
