"""What a run would take, beside the form that asks for it.

Knows nothing of how a plan is made: the trainer makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corral import formatting
from corral.gateway.console.elements import Tone, box, button, facts, heading, note, pill, text
from corral.v1 import trainer_pb2

# The parts of the memory, with their colours' names in the style sheet.
_PARTS = (
    ("weights", "Weights", "accent"),
    ("gradients", "Gradients", "second"),
    ("optimizer", "Optimizer", "third"),
    ("activations", "Activations", "fourth"),
    ("logits", "Logits", "warn"),
    ("saving", "Saving", "muted"),
    ("runtime", "Runtime", "line-strong"),
)


def show_plan(plan: trainer_pb2.TrainingPlan, take: Callable[[dict[str, Any]], None]) -> None:
    """The whole plan; `take` gets the settings of a proposal that is chosen."""
    verdict, tone = _verdict(plan)
    with box("bar apart"):
        heading("Plan")
        pill(verdict, tone)
    facts([("Time", _time(plan))])
    facts(_summary(plan))
    _memory(plan)
    details = [
        ("Tokens", f"{plan.tokens:,}"),
        ("Trained on", f"{plan.label_share:.0%} of them"),
        ("Disk", f"{formatting.size(plan.disk)}"),
        ("Largest batch", f"{plan.largest_batch_size:,}"),
    ]
    if plan.held_out_rows:
        details.append(("Rows held out", f"{plan.held_out_rows:,}"))
    facts(details, "plain")
    for proposal in plan.proposals:
        _proposal(proposal, take)


def _verdict(plan: trainer_pb2.TrainingPlan) -> tuple[str, Tone]:
    return ("fits", "good") if plan.fits else ("does not fit", "bad")


def _summary(plan: trainer_pb2.TrainingPlan) -> list[tuple[str, str]]:
    found = [("Steps", f"{plan.steps:,}")]
    if plan.HasField("highest_cost"):
        found.append(("Price", f"${plan.lowest_cost:.2f}–${plan.highest_cost:.2f}"))
    trained = plan.trainable_parameters
    found.append(("Trained weights", _millions(trained)))
    return found


def _time(plan: trainer_pb2.TrainingPlan) -> str:
    if not plan.time_source:
        return "not known"
    shortest = plan.shortest.ToTimedelta().total_seconds()
    longest = plan.longest.ToTimedelta().total_seconds()
    low, high = formatting.duration(shortest), formatting.duration(longest)
    return low if low == high else f"{low} – {high}"


def _millions(count: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:,}"


def _memory(plan: trainer_pb2.TrainingPlan) -> None:
    whole = max(plan.device_memory, plan.memory.total, 1)
    parts = [(name, shade, getattr(plan.memory, key)) for key, name, shade in _PARTS]
    label = f"Memory: {formatting.size(plan.memory.total)} of {formatting.size(plan.device_memory)}"
    with box("stack tight"):
        with box("bar apart small"):
            text(f"Memory on {plan.device}", tag="span")
            text(
                f"{formatting.size(plan.needed)} of {formatting.size(plan.device_memory)}",
                "muted",
                "span",
            )
        with box("track tall") as bar:
            bar.props("role=img").props["aria-label"] = label
            for name, shade, size in parts:
                if size:
                    piece = box("").style(
                        f"width: {100 * size / whole:.2f}%; background: var(--{shade})"
                    )
                    piece.props["title"] = f"{name}: {formatting.size(size)}"
        with box("legend"):
            for name, shade, size in parts:
                if size:
                    box("swatch", "span").style(f"background: var(--{shade})")
                    text(name, tag="span")
                    text(formatting.size(size), "muted", "span")


def _proposal(proposal: trainer_pb2.PlanProposal, take: Callable[[dict[str, Any]], None]) -> None:
    changes = {field.name: value for field, value in proposal.changes.ListFields()}
    tone: Tone = "" if proposal.fits else "warn"
    with note(proposal.description, f"{formatting.size(proposal.memory.total)}", tone):
        button("Take it", lambda: take(changes))
