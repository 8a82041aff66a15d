"""From a plan to corral.v1's message. Knows nothing of how a plan is made."""

from __future__ import annotations

from corral.planning.memory import Memory, trainable_parameters
from corral.planning.plan import needed
from corral.trainer.convert import duration, spec_to_proto
from corral.trainer.planning import Priced
from corral.v1 import trainer_pb2 as pb


def plan_to_proto(priced: Priced) -> pb.TrainingPlan:
    """A plan with its price, if it has one."""
    plan, cost = priced.plan, priced.cost
    work = plan.work
    return pb.TrainingPlan(
        spec=spec_to_proto(plan.spec),
        device=plan.device.name,
        device_memory=plan.device.memory,
        fits=plan.fits,
        memory=_memory(plan.memory),
        needed=needed(plan.memory, plan.spec, plan.device),
        parameters=plan.shape.parameters,
        trainable_parameters=trainable_parameters(plan.spec, plan.shape),
        rows=work.rows,
        held_out_rows=work.held_out,
        steps=work.steps,
        tokens=work.tokens,
        label_share=work.label_share,
        padding_waste=work.padding_waste,
        packing_waste=work.packing_waste,
        largest_batch_size=plan.largest_batch_size,
        shortest=duration(plan.shortest),
        longest=duration(plan.longest),
        time_source=plan.pace.source if plan.pace else "",
        checkpoint_size=plan.checkpoint_bytes,
        disk=plan.disk_bytes,
        proposals=[
            pb.PlanProposal(
                changes=pb.TrainingSpec(**proposal.changes),
                description=proposal.why,
                memory=_memory(proposal.memory),
                fits=proposal.fits,
            )
            for proposal in plan.proposals
        ],
        lowest_cost=cost.low if cost else None,
        highest_cost=cost.high if cost else None,
    )


def _memory(memory: Memory) -> pb.MemoryPlan:
    return pb.MemoryPlan(
        runtime=memory.runtime,
        weights=memory.weights,
        gradients=memory.gradients,
        optimizer=memory.optimizer,
        activations=memory.activations,
        logits=memory.logits,
        saving=memory.saving,
        total=memory.total,
    )
