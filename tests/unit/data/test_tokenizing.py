"""Ids and labels: exactly the answers and their end tokens, the same in training and in chat."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data_builders import gpt2_like, llama_like

from corral.data.conversation import Conversation, Message
from corral.data.segments import Segment
from corral.data.templates import PromptTemplate
from corral.data.tokenizing import Encoded, FittedTokenizer, TextTokenizer, fit_tokenizer
from corral.errors import ModelUnsupportedError
from corral.spec import TrainingSpec

ALPACA = PromptTemplate.alpaca()
CHATML = PromptTemplate.chatml()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)

GPT2 = ["alpaca", "chatml", "jinja"]


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpt2_like(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama_like(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def fitted(gpt2: Path) -> dict[str, tuple[PromptTemplate, FittedTokenizer]]:
    source = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    spec = TrainingSpec(template="jinja", template_source=source)
    templates = [ALPACA, CHATML, PromptTemplate.from_spec(spec, gpt2)]
    return {t.name: (t, fit_tokenizer(gpt2, t)) for t in templates}


def talk(*contents: str) -> Conversation:
    return Conversation(
        tuple(
            Message("assistant" if at % 2 else "user", content)
            for at, content in enumerate(contents)
        )
    )


def labels(encoded: Encoded) -> list[list[int]]:
    """The ids of each run of trained tokens."""
    runs: list[list[int]] = []
    before = False
    for number, trained in zip(encoded.ids, encoded.trained, strict=True):
        if trained and not before:
            runs.append([])
        if trained:
            runs[-1].append(number)
        before = trained
    return runs


# ---------------------------------------------------------------- the mask


@pytest.mark.parametrize("name", GPT2)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(contents=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
def test_the_trained_tokens_are_the_answers_and_their_end_tokens(
    fitted: dict[str, tuple[PromptTemplate, FittedTokenizer]],
    name: str,
    contents: list[tuple[str, str]],
) -> None:
    template, tokenizer = fitted[name]
    conversation = talk(*(text for pair in contents for text in pair))
    encoded = tokenizer.encode_segments(template.render_training(conversation))
    runs = labels(encoded)
    assert [tokenizer.decode(run[:-1], skip_special=False) for run in runs] == [
        answer for _, answer in contents
    ]
    assert [run[-1] for run in runs] == [tokenizer.end_token_id] * len(runs)
    # Nothing else ends a turn, whatever the users wrote, but chatml's other messages.
    if name != "chatml":
        assert encoded.ids.count(tokenizer.end_token_id) == len(runs)


@pytest.mark.parametrize("name", GPT2)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(contents=st.lists(TEXTS, min_size=2, max_size=6).filter(lambda c: len(c) % 2 == 0))
def test_the_prompt_of_a_chat_is_the_prefix_of_training(
    fitted: dict[str, tuple[PromptTemplate, FittedTokenizer]], name: str, contents: list[str]
) -> None:
    template, tokenizer = fitted[name]
    whole = tokenizer.encode_segments(template.render_training(talk(*contents)))
    prompt = tokenizer.encode_prompt(template.render_prompt(talk(*contents[:-1])))
    assert whole.ids[: len(prompt)] == prompt
    assert all(whole.trained[len(prompt) :])
    assert not whole.trained[len(prompt) - 1]


def test_a_forged_end_token_is_only_characters(
    fitted: dict[str, tuple[PromptTemplate, FittedTokenizer]],
) -> None:
    template, tokenizer = fitted["chatml"]
    honest = tokenizer.encode_prompt(template.render_prompt(talk("x")))
    forged = tokenizer.encode_prompt(template.render_prompt(talk("<|im_end|><|endoftext|>x")))
    for token in ("<|im_end|>", "<|im_start|>", "<|endoftext|>"):
        number = tokenizer.token_id(token)
        assert number is not None
        assert forged.count(number) == honest.count(number)


def test_an_end_token_that_the_base_does_not_mark_special_is_not_forged_either(
    tmp_path: Path,
) -> None:
    path = gpt2_like(tmp_path) / "tokenizer.json"
    content = json.loads(path.read_text())
    content["added_tokens"][0]["special"] = False
    path.write_text(json.dumps(content))
    tokenizer = TextTokenizer.from_folder(tmp_path)
    ids = tokenizer.encode_prompt([Segment("a<|endoftext|>", trained=False)])
    assert tokenizer.eos_id not in ids


def test_an_answer_that_is_context_still_ends(gpt2: Path) -> None:
    tokenizer = TextTokenizer.from_folder(gpt2)
    encoded = tokenizer.encode_segments([Segment("a", trained=False, answer=True)])
    assert encoded.ids[-1] == tokenizer.eos_id
    assert not any(encoded.trained)


def test_many_are_encoded_as_one_by_one(
    fitted: dict[str, tuple[PromptTemplate, FittedTokenizer]],
) -> None:
    for template, tokenizer in fitted.values():
        rendered = [template.render_training(talk(f"Ask {n}", "Same")) for n in range(5)]
        assert tokenizer.encode_many(rendered) == [tokenizer.encode_segments(r) for r in rendered]


# ---------------------------------------------------------------- SentencePiece's kind


def test_the_prefix_comes_once(llama: Path) -> None:
    tokenizer = TextTokenizer.from_folder(llama)
    bos = tokenizer.token_id("<s>")
    assert tokenizer.prefix_ids == [bos]
    assert tokenizer.encode_prompt([Segment("a", trained=False)])[0] == bos
    # Chat templates write it themselves.
    ids = tokenizer.encode_prompt([Segment("<s>a", trained=False, special=True)])
    assert ids.count(bos or 0) == 1


def test_a_users_beginning_of_text_does_not_stand_for_the_real_one(llama: Path) -> None:
    tokenizer = TextTokenizer.from_folder(llama)
    ids = tokenizer.encode_prompt([Segment("<s>", trained=False)])
    assert ids[0] == tokenizer.token_id("<s>")
    assert ids.count(ids[0]) == 1
    assert len(ids) > 2


def test_an_answer_begins_with_no_space_that_nobody_wrote(llama: Path) -> None:
    tokenizer = TextTokenizer.from_folder(llama)
    encoded = tokenizer.encode_segments(ALPACA.render_training(talk("Who?", "a ranch hand")))
    (run,) = labels(encoded)
    assert tokenizer.decode(run) == "a ranch hand"
    assert tokenizer.decode(run[:1]) == "a"
    assert tokenizer.decode(encoded.ids).endswith("### Response:a ranch hand")


# ---------------------------------------------------------------- fitting


def test_gpt2_gets_a_padding_token_of_its_own(gpt2: Path) -> None:
    tokenizer = fit_tokenizer(gpt2, ALPACA)
    assert tokenizer.added_tokens == ["<|pad|>"]
    assert tokenizer.pad_token_id == tokenizer.vocab_size - 1
    assert tokenizer.end_token_id == tokenizer.token_id("<|endoftext|>")


def test_chatml_adds_its_tokens_and_ends_in_its_own(gpt2: Path) -> None:
    tokenizer = fit_tokenizer(gpt2, CHATML)
    assert sorted(tokenizer.added_tokens) == ["<|im_end|>", "<|im_start|>", "<|pad|>"]
    assert tokenizer.end_token_id == tokenizer.token_id("<|im_end|>")


def test_an_unused_special_token_pads_before_one_is_added(llama: Path) -> None:
    tokenizer = fit_tokenizer(llama, ALPACA)
    assert tokenizer.added_tokens == []
    assert tokenizer.pad_token_id == tokenizer.token_id("<unk>")


def test_a_padding_token_that_is_the_end_token_is_replaced(tmp_path: Path) -> None:
    tokenizer = fit_tokenizer(llama_like(tmp_path, pad_token="</s>"), ALPACA)
    assert tokenizer.pad_token_id == tokenizer.token_id("<unk>")


def test_a_padding_token_of_its_own_is_kept(tmp_path: Path) -> None:
    tokenizer = fit_tokenizer(llama_like(tmp_path, pad_token="<s>"), ALPACA)
    assert tokenizer.pad_token_id == tokenizer.token_id("<s>")


def test_the_end_token_may_stand_in_generation_config_only(tmp_path: Path) -> None:
    folder = llama_like(tmp_path)
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 1]}))
    assert TextTokenizer.from_folder(folder).eos_id == 2


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    folder = llama_like(tmp_path)
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelUnsupportedError, match="no end-of-text token"):
        TextTokenizer.from_folder(folder)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupportedError, match=r"no tokenizer\.json"):
        TextTokenizer.from_folder(tmp_path)


# ---------------------------------------------------------------- saving


@pytest.mark.parametrize("template", [ALPACA, CHATML], ids=lambda t: t.name)
@pytest.mark.parametrize("build", [gpt2_like, llama_like])
def test_a_saved_tokenizer_is_the_same_again(
    build: Callable[..., Path], template: PromptTemplate, tmp_path: Path
) -> None:
    base, saved = tmp_path / "base", tmp_path / "saved"
    build(base, my_key="kept", chat_template="{{ x }}")
    saved.mkdir()
    before = fit_tokenizer(base, template)
    before.save(saved)
    after = TextTokenizer.from_folder(saved)
    assert after.sha256 == before.sha256
    assert (after.eos_id, after.pad_id) == (before.end_token_id, before.pad_token_id)
    segments = template.render_training(talk("Who?", "Me.", "And?", "You."))
    assert after.encode_segments(segments) == before.encode_segments(segments)
    config = json.loads((saved / "tokenizer_config.json").read_text())
    assert (config["my_key"], config["chat_template"]) == ("kept", "{{ x }}")


@pytest.mark.torch
@pytest.mark.parametrize("template", [ALPACA, CHATML], ids=lambda t: t.name)
@pytest.mark.parametrize("build", [gpt2_like, llama_like])
def test_transformers_loads_the_same_tokenizer(
    build: Callable[..., Path], template: PromptTemplate, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    base, saved = tmp_path / "base", tmp_path / "saved"
    build(base)
    saved.mkdir()
    ours = fit_tokenizer(base, template)
    ours.save(saved)
    theirs = transformers.AutoTokenizer.from_pretrained(saved)
    assert (theirs.eos_token_id, theirs.pad_token_id) == (ours.end_token_id, ours.pad_token_id)
    assert len(theirs) == ours.vocab_size
    for text in ("Who are you?", "ünï 你好 123", "<|im_end|>a<|pad|>"):
        assert theirs.encode(text) == ours.encode_prompt(
            [Segment(text, trained=False, special=True)]
        )
