"""The memory of one rank at its peak, part by part.

Every part is a formula of the model's sizes and of the longest forward pass; what each stands for is
said beside it. Activations are counted, not fitted: a test holds the formula against what autograd
keeps, for every architecture. docs/training.md holds the sums against measured peaks. Knows nothing
of speed, or of where the run would run.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from corral import formatting
from corral.planning.devices import Device
from corral.planning.shapes import ModelShape
from corral.planning.workload import Workload
from corral.spec import TrainingSpec

MIB = 1024**2

# Python, torch, transformers and their threads, before a model is there: 430 MiB measured on Linux.
# On a GPU CUDA's context and cuBLAS' workspace.
_CPU_RUNTIME, _GPU_RUNTIME = 430 * MIB, 600 * MIB
_FP32, _BF16 = 4, 2
# Adam's two moments.
_MOMENTS = 2
# Label tokens whose logits exist at a time, see corral.training.head.
LOGIT_ROWS = 1024


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank."""

    runtime: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    # Copies that are written to disk while training goes on.
    saving: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, part.name) for part in fields(self))

    def sentence(self) -> str:
        """The parts, largest first: `activations 1.2 GiB, optimizer 1.0 GiB, …`."""
        parts = [(getattr(self, part.name), part.name) for part in fields(self)]
        return ", ".join(f"{name} {formatting.size(size)}" for size, name in sorted(parts)[::-1])


def peak_memory(spec: TrainingSpec, shape: ModelShape, device: Device, work: Workload) -> Memory:
    """What one rank takes at its peak."""
    ranks = spec.processes if spec.fsdp == "full_shard" else 1
    compute = compute_bytes(spec, device)
    master = compute if spec.precision == "bf16-pure" else _FP32
    trained = trainable_parameters(spec, shape)
    tokens = pass_tokens(spec, work)
    labels = round(tokens * work.label_share)
    activations = tokens * activation_bytes(shape, compute, work.mean_keys, spec) + labels * (
        shape.hidden * (compute + 8)
    )
    gradients = master * trained // ranks
    if ranks > 1:
        # A layer's gradients are whole, in float32 too, while they are summed over the ranks.
        gradients += (_FP32 + compute) * (shape.layer_parameters + shape.embedding_parameters)
    elif _passes(spec, work) == 1:
        # In a single backward pass gradients come as activations go.
        gradients = max(0, gradients - activations)
    return Memory(
        runtime=_GPU_RUNTIME if device.is_gpu else _CPU_RUNTIME,
        weights=_weight_bytes(spec, shape, compute, master, ranks),
        gradients=gradients,
        optimizer=_MOMENTS * master * trained // ranks,
        activations=activations,
        logits=_logit_bytes(shape, compute, labels, trains_head=spec.tuning == "full"),
        saving=0 if device.is_gpu else _saving_bytes(spec, shape, trained, work, ranks),
    )


def pass_tokens(spec: TrainingSpec, work: Workload) -> int:
    """Tokens of the largest forward pass: what a pack may hold, or all that a rank's part of a step
    has for it; of unpacked ones, the longest of many.
    """
    if not spec.packing:
        return round(spec.batch_size * min(work.longest, 2 * work.mean_length))
    most = spec.batch_size * spec.max_length
    step = spec.batch_size * spec.gradient_accumulation_steps * work.mean_length
    return max(work.longest, min(most, round(step)))


def _passes(spec: TrainingSpec, work: Workload) -> int:
    """Forward passes of a rank in one optimizer step, at least."""
    if not spec.packing:
        return spec.gradient_accumulation_steps
    examples = spec.batch_size * spec.gradient_accumulation_steps
    return max(1, -(-round(examples * work.mean_length) // (spec.batch_size * spec.max_length)))


def activation_bytes(shape: ModelShape, compute: int, mean_keys: float, spec: TrainingSpec) -> int:
    """Bytes that autograd keeps for each token of a forward pass, head and loss aside.

    `compute` is bytes of an element of the compute type, `mean_keys` the keys per token that
    attention keeps weights for.
    """
    layer = _layer_bytes(shape, compute) + round(
        shape.heads * mean_keys * compute * (2 if shape.has_dropout else 1)
    )
    # The embeddings' output, and the last norm's input and float32 copy.
    ends = shape.hidden * (2 * compute + 4)
    if spec.gradient_checkpointing:
        # The input of each layer, and one layer at a time in full: what its forward pass keeps, what
        # it needs meanwhile, and the gradients of both.
        return shape.layers * compute * shape.hidden + 3 * layer + ends
    return shape.layers * layer + ends


def _layer_bytes(shape: ModelShape, compute: int) -> int:
    """Of one decoder layer and token, attention's weights aside; 4 is a float32 that a norm keeps."""
    hidden, inner = shape.hidden, shape.intermediate
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if shape.architecture == "GPT2LMHeadModel":
        # Norms, qkv, attention's output, and the tanh approximation of GELU, written out.
        masks = 2 * hidden if shape.has_dropout else 0
        return compute * (8 * hidden + 5 * inner + masks)
    gated = 4 * compute * inner
    if shape.architecture == "Gemma3ForCausalLM":
        return hidden * (2 * compute + 32) + (2 * compute + 8) * (queries + keys) + gated
    plain = hidden * (4 * compute + 8) + 2 * compute * (queries + keys) + gated
    if shape.architecture == "Qwen3ForCausalLM":
        # Norms of queries and keys.
        return plain + (compute + 4) * (queries + keys)
    return plain


def _logit_bytes(shape: ModelShape, compute: int, labels: int, *, trains_head: bool) -> int:
    """A chunk of logits, and the head's gradient in float32 and in the compute type."""
    chunk = min(LOGIT_ROWS, labels) * shape.vocabulary * compute
    gradient = shape.vocabulary * shape.hidden * (_FP32 + compute) if trains_head else 0
    return chunk + gradient


def _weight_bytes(
    spec: TrainingSpec, shape: ModelShape, compute: int, master: int, ranks: int
) -> int:
    """Masters, and what computes: a copy in the compute type, or with FSDP the layers that are
    gathered at a time.
    """
    if spec.tuning == "lora":
        adapters = trainable_parameters(spec, shape)
        return (compute * shape.parameters + (_FP32 + compute) * adapters) // ranks
    if ranks > 1:
        gathered = compute * (shape.embedding_parameters + 2 * shape.layer_parameters)
        return master * shape.parameters // ranks + gathered
    copy = compute if compute != master else 0
    return (master + copy) * shape.parameters


def _saving_bytes(
    spec: TrainingSpec, shape: ModelShape, trained: int, work: Workload, ranks: int
) -> int:
    """What corral.training.snapshot copies on the main rank; nothing where only the end is saved."""
    if work.steps <= spec.checkpoint_every:
        return 0
    weights = trained if ranks == 1 and trained < shape.parameters else shape.parameters
    return _FP32 * weights + _MOMENTS * _FP32 * -(-trained // ranks)


def trainable_parameters(spec: TrainingSpec, shape: ModelShape) -> int:
    """Parameters that the run changes: all of them, or LoRA's two factors of each matrix."""
    if spec.tuning == "full":
        return shape.parameters
    return shape.layers * spec.lora_rank * shape.layer_matrix_sides


def checkpoint_bytes(spec: TrainingSpec, shape: ModelShape) -> int:
    """On disk: float32 weights, and the state to go on from."""
    return _FP32 * (shape.parameters + _MOMENTS * trainable_parameters(spec, shape))


def compute_bytes(spec: TrainingSpec, device: Device) -> int:
    """Bytes of an element of the type that the run computes in."""
    if spec.precision == "fp32" or (spec.precision == "auto" and not device.has_bf16):
        return _FP32
    return _BF16
