"""The loss of documents laid behind each other is the loss of each of them alone."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from tests.tiny_models import tiny_gpt2
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from corral.data.examples import TokenizedExample
from corral.training.batches import label_count, make_batch
from corral.training.model import LabelLoss, grow_vocabulary, load_trainable

CPU = torch.device("cpu")
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
# Windows narrower than the longest example, so that what slides is exercised too.
FAMILIES = {
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
    "llama": (LlamaConfig, SHAPE),
    "mistral": (MistralConfig, SHAPE | {"sliding_window": 8}),
    "qwen2": (Qwen2Config, SHAPE),
    "qwen3": (Qwen3Config, SHAPE),
    "gemma3": (Gemma3TextConfig, SHAPE | {"sliding_window": 8}),
}


def example(length: int, prompt: int, seed: int) -> TokenizedExample:
    ids = torch.randint(5, 200, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return TokenizedExample(ids=ids, trained=[False] * prompt + [True] * (length - prompt))


EXAMPLES = [example(12, 4, 1), example(5, 1, 2), example(30, 25, 3)]


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest):
    config_class, fields = FAMILIES[request.param]
    config = config_class(vocab_size=384, **fields)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.float().eval()


def reference_loss(model, chosen: TokenizedExample):
    """transformers' own loss, one example at a time, summed instead of averaged."""
    ids = torch.tensor([list(chosen.ids)])
    labels = ids.masked_fill(~torch.tensor([[bool(t) for t in chosen.trained]]), -100)
    return model(input_ids=ids, labels=labels).loss * label_count(chosen)


def test_documents_in_one_row_do_not_see_each_other(model) -> None:
    packed = LabelLoss(model)(make_batch(EXAMPLES, CPU))
    alone = sum(reference_loss(model, chosen) for chosen in EXAMPLES)
    assert packed.item() == pytest.approx(alone.item(), rel=1e-5)


def test_gradients_of_packed_documents_are_those_of_each_alone(model) -> None:
    LabelLoss(model)(make_batch(EXAMPLES, CPU)).backward()
    packed = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    sum(reference_loss(model, chosen) for chosen in EXAMPLES).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(packed[name], parameter.grad, rtol=1e-3, atol=1e-5)


def beginning_alike(*lengths: int) -> list[TokenizedExample]:
    """Examples with the same first 20 tokens, the last of which two are trained in one of them."""
    shared = list(example(20, 20, 9).ids)
    alike = []
    for seed, length in enumerate(lengths):
        own = example(length, 2, 10 + seed)
        trained = [False] * 18 + [seed == 0] * 2 + list(own.trained)
        alike.append(TokenizedExample(ids=shared + list(own.ids), trained=bytes(trained)))
    return alike


def test_a_beginning_that_examples_share_is_computed_once(model) -> None:
    alike = [*beginning_alike(5, 12, 3), example(9, 2, 3)]
    batch = make_batch(alike, CPU)
    assert batch.tokens == 89
    assert batch.input_ids.shape == (1, 49)


def test_sharing_a_beginning_changes_neither_loss_nor_gradients(model) -> None:
    alike = [*beginning_alike(5, 12, 3), example(9, 2, 3)]
    shared = LabelLoss(model)(make_batch(alike, CPU))
    shared.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    alone = sum(reference_loss(model, chosen) for chosen in alike)
    alone.backward()
    assert shared.item() == pytest.approx(alone.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_gradient_checkpointing_changes_neither_loss_nor_gradients(model) -> None:
    batch = make_batch(EXAMPLES, CPU)
    plain = LabelLoss(model)(batch)
    plain.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.activation_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    checkpointed = LabelLoss(model.train())(batch)
    checkpointed.backward()
    assert checkpointed.item() == pytest.approx(plain.item(), rel=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_the_same_example_twice_counts_twice(model) -> None:
    (once,) = beginning_alike(5)
    twice = LabelLoss(model)(make_batch([once, once], CPU))
    assert twice.item() == pytest.approx(2 * reference_loss(model, once).item(), rel=1e-5)


def test_the_first_token_is_never_a_label() -> None:
    batch = make_batch([TokenizedExample(ids=[5, 6], trained=[True, True])] * 2, CPU)
    assert batch.labels.tolist() == [6, 6]
    assert batch.predicts.tolist() == [0, 2]


def test_a_rank_without_data_adds_no_loss_and_no_gradient_but_takes_part(model) -> None:
    loss = LabelLoss(model)(make_batch([], CPU))
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)
    assert any(p.grad is not None for p in model.parameters())


def test_new_rows_of_the_vocabulary_start_at_the_mean_of_the_old_ones(model) -> None:
    old = model.get_input_embeddings().weight.detach().clone()
    grow_vocabulary(model, len(old) + 2)
    new = model.get_input_embeddings().weight
    assert len(new) == len(old) + 2
    torch.testing.assert_close(new[: len(old)], old)
    torch.testing.assert_close(new[-1], old.mean(dim=0))
    assert model.get_output_embeddings().weight.shape == new.shape


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path: Path) -> None:
    from corral.errors import ModelUnsupportedError

    folder = tiny_gpt2(tmp_path / "model")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"n_layer": 2', '"n_layer": 3'))
    with pytest.raises(ModelUnsupportedError, match="absent"):
        load_trainable(folder, 10)
