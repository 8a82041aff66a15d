"""The Inference service through its contract."""

from __future__ import annotations

import asyncio
from array import array
from datetime import timedelta
from typing import Any

import pytest
from tests.integration.inference.conftest import FINE_TUNED, Served

from corral.data.conversation import Message
from corral.errors import (
    CorralError,
    InvalidRequestError,
    ModelNotFoundError,
    PromptTooLongError,
)
from corral.generation.answers import Finish, Piece
from corral.rpc.channel import translated_errors
from corral.sampling import SamplingOptions
from corral.v1 import inference_pb2 as pb
from corral.volume import Volume

pytestmark = pytest.mark.torch

GREEDY = pb.SamplingOptions(temperature=0, max_tokens=30)
QUESTION = pb.Message(role=pb.ROLE_USER, content="Who made you?")


def chat(model: str, *messages: pb.Message, sampling: pb.SamplingOptions = GREEDY) -> Any:
    return pb.ChatRequest(model=model, messages=messages or [QUESTION], sampling=sampling)


async def read(call: Any) -> tuple[str, pb.Finish]:
    """All pieces joined, and the finish, which must be the last of the stream."""
    events = [event async for event in call]
    assert [event.WhichOneof("event") for event in events[:-1]] == ["text"] * (len(events) - 1)
    assert events[-1].HasField("finish")
    return "".join(event.text for event in events), events[-1].finish


async def refusal(call: Any) -> CorralError:
    with pytest.raises(CorralError) as refused, translated_errors():
        async for _ in call:
            pass
    return refused.value


async def test_chat_answers_what_the_checkpoint_generates(served: Served, volume: Volume) -> None:
    from corral.generation.generating import generate
    from corral.generation.loading import load_model
    from corral.generation.prompts import chat_prompt

    text, finish = await read(served.stub.Chat(chat(FINE_TUNED)))

    model = load_model(volume.checkpoints("job-1") / "step-00000010-a1", precision="fp32")
    prompt_ids = chat_prompt(model, [Message("user", QUESTION.content)])
    options = SamplingOptions(temperature=0, max_tokens=30)
    *pieces, end = generate(model, prompt_ids, options)
    assert text == "".join(piece.text for piece in pieces if isinstance(piece, Piece))
    assert isinstance(end, Finish)
    assert finish.prompt_tokens == len(prompt_ids)
    assert finish.completion_tokens == end.completion_tokens


async def test_the_finish_carries_reason_name_and_timings(served: Served) -> None:
    _, finish = await read(served.stub.Chat(chat("job-1")))
    assert finish.model == FINE_TUNED
    assert finish.reason in (pb.FINISH_REASON_LENGTH, pb.FINISH_REASON_STOP)
    first, total = finish.time_to_first_token.ToTimedelta(), finish.total_time.ToTimedelta()
    assert timedelta(0) < first <= total
    assert finish.tokens_per_second > 0


async def test_generate_continues_a_raw_prompt(served: Served) -> None:
    request = pb.GenerateRequest(model="tiny-llama", prompt="The quick brown", sampling=GREEDY)
    text, finish = await read(served.stub.Generate(request))
    assert text
    assert finish.reason == pb.FINISH_REASON_LENGTH
    assert finish.completion_tokens == 30


async def test_sampling_options_reach_the_model(served: Served) -> None:
    whole, _ = await read(served.stub.Chat(chat("tiny-llama")))
    stopping = pb.SamplingOptions(temperature=0, max_tokens=30, stop=[whole[4:6]])
    text, finish = await read(served.stub.Chat(chat("tiny-llama", sampling=stopping)))
    assert text == whole[: whole.index(whole[4:6])]
    assert finish.reason == pb.FINISH_REASON_STOP


async def test_the_same_seed_answers_the_same_alone_and_beside_others(served: Served) -> None:
    seeded = pb.SamplingOptions(temperature=1.2, top_p=1, top_k=0, max_tokens=30, seed=5)
    alone = await read(served.stub.Chat(chat("tiny-llama", sampling=seeded)))
    others = [read(served.stub.Chat(chat(name))) for name in ("tiny-gpt2", "tiny-llama")]
    beside, *_ = await asyncio.gather(
        read(served.stub.Chat(chat("tiny-llama", sampling=seeded))), *others
    )
    assert beside[0] == alone[0]


async def test_a_model_that_many_ask_for_at_once_is_loaded_once(served: Served) -> None:
    answers = await asyncio.gather(*(read(served.stub.Chat(chat("job-1"))) for _ in range(4)))
    assert len({text for text, _ in answers}) == 1
    assert len(served.loads) == 1


async def test_models_are_listed_in_pages(served: Served) -> None:
    first = await served.stub.ListModels(pb.ListModelsRequest(page_size=2))
    assert len(first.models) == 2
    names, token = [model.name for model in first.models], first.next_page_token
    while token:
        page = await served.stub.ListModels(pb.ListModelsRequest(page_size=2, page_token=token))
        names += [model.name for model in page.models]
        token = page.next_page_token
    assert {"tiny-gpt2", "tiny-llama", FINE_TUNED} <= set(names)
    assert len(names) == len(set(names))


async def test_get_model_says_where_a_checkpoint_comes_from(served: Served) -> None:
    found = (await served.stub.GetModel(pb.GetModelRequest(model="job-1"))).model
    assert (found.name, found.job_id, found.step) == (FINE_TUNED, "job-1", 10)
    assert (found.base_model, found.template, found.is_base) == ("tiny-gpt2", "alpaca", False)
    assert found.created_at.seconds == 1_700_000_010
    assert not found.is_loaded


async def test_a_model_shows_as_loaded_after_its_first_answer(served: Served) -> None:
    await read(served.stub.Chat(chat("tiny-gpt2")))
    found = (await served.stub.GetModel(pb.GetModelRequest(model="tiny-gpt2"))).model
    assert found.is_loaded
    assert found.is_base


async def test_a_client_that_goes_away_leaves_the_service_free(served: Served) -> None:
    endless = pb.SamplingOptions(temperature=0, max_tokens=100)
    for _ in range(12):  # more than slots and waiting places together
        call = served.stub.Chat(chat("tiny-gpt2", sampling=endless))
        await anext(aiter(call))
        call.cancel()
    text, _ = await read(served.stub.Chat(chat("tiny-gpt2")))
    assert text


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (chat("tiny-gpt"), ModelNotFoundError, "tiny-gpt2"),
        (chat("ft:tiny-gpt2:pirate:job-1:ckpt-step-7"), ModelNotFoundError, "10"),
        (chat("", QUESTION), InvalidRequestError, "model"),
        (pb.ChatRequest(model="tiny-gpt2"), InvalidRequestError, "no messages"),
        (chat("tiny-gpt2", pb.Message(content="Hi")), InvalidRequestError, "has no role"),
        (chat("tiny-gpt2", pb.Message(role=2, content="ha " * 500)), PromptTooLongError, "128"),
        (
            chat("tiny-gpt2", sampling=pb.SamplingOptions(temperature=-1)),
            InvalidRequestError,
            "temperature",
        ),
    ],
)
async def test_a_wrong_request_gets_a_sentence(
    served: Served, request_: pb.ChatRequest, error: type[CorralError], says: str
) -> None:
    refused = await refusal(served.stub.Chat(request_))
    assert type(refused) is error
    assert says in str(refused)


async def test_a_page_size_that_is_too_large_is_refused(served: Served) -> None:
    with pytest.raises(InvalidRequestError, match="page_size"), translated_errors():
        await served.stub.ListModels(pb.ListModelsRequest(page_size=1001))


# ---------------------------------------------------------------- other templates, and scores


ANSWER = pb.Message(role=pb.ROLE_ASSISTANT, content="Red, green and blue.")


async def test_a_score_is_the_training_loss_of_the_answer(served: Served, volume: Volume) -> None:
    import torch

    from corral.data.conversation import Conversation
    from corral.data.examples import TokenizedExample
    from corral.generation.loading import load_model
    from corral.training.batches import make_batch
    from corral.training.model import LabelLoss, load_trainable

    scored = await served.stub.Score(pb.ScoreRequest(model="job-1", messages=[QUESTION, ANSWER]))

    folder = volume.checkpoints("job-1") / "step-00000010-a1"
    model = load_model(folder, precision="fp32")
    turns = (Message("user", QUESTION.content), Message("assistant", ANSWER.content))
    encoded = model.tokenizer.encode_segments(model.template.render_training(Conversation(turns)))
    example = TokenizedExample(array("I", encoded.ids), bytes(encoded.trained))
    network = load_trainable(folder, model.tokenizer.vocab_size).eval()
    loss = LabelLoss(network)(make_batch([example], torch.device("cpu")))
    assert scored.model == FINE_TUNED
    assert scored.log_likelihood == pytest.approx(-float(loss), rel=1e-5)
    assert (scored.answer_tokens, scored.prompt_tokens + scored.answer_tokens) == (
        sum(encoded.trained),
        len(encoded.ids),
    )


@pytest.mark.parametrize(
    "template",
    [
        pb.PromptTemplate(template="alpaca", preamble="Praise the cat."),
        pb.PromptTemplate(template="chatml"),
        pb.PromptTemplate(template="jinja", template_source="{% for m in messages %}{{ m.role + ': ' + m.content + ' ' }}{% endfor %}"),
    ],
    ids=lambda template: template.template,
)  # fmt: skip
async def test_another_prompt_changes_the_score_but_not_the_answers_tokens(
    served: Served, template: pb.PromptTemplate
) -> None:
    messages = [QUESTION, ANSWER]
    own = await served.stub.Score(pb.ScoreRequest(model="job-1", messages=messages))
    other = await served.stub.Score(
        pb.ScoreRequest(model="job-1", messages=messages, prompt_template=template)
    )
    assert other.answer_tokens == own.answer_tokens
    assert other.log_likelihood != own.log_likelihood


async def test_chat_under_another_prompt_reads_that_prompt(served: Served) -> None:
    _, own = await read(served.stub.Chat(chat("job-1")))
    request = chat("job-1")
    request.prompt_template.template = "alpaca"
    _, same = await read(served.stub.Chat(request))
    request.prompt_template.preamble = "Praise."
    _, other = await read(served.stub.Chat(request))
    assert same.prompt_tokens == own.prompt_tokens
    assert other.prompt_tokens < own.prompt_tokens


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (pb.PromptTemplate(template="poem"), "poem"),
        (pb.PromptTemplate(template="chatml", preamble="Hi."), "preamble"),
    ],
    ids=["unknown", "unfitting"],
)
async def test_a_prompt_that_is_none_is_refused(
    served: Served, template: pb.PromptTemplate, said: str
) -> None:
    request = chat("job-1")
    request.prompt_template.CopyFrom(template)
    assert said in (await refusal(served.stub.Chat(request))).message


async def test_a_score_needs_an_answer_that_fits(served: Served) -> None:
    for messages, error in (
        ([QUESTION], InvalidRequestError),
        ([QUESTION, pb.Message(role=pb.ROLE_ASSISTANT, content="a b " * 200)], PromptTooLongError),
    ):
        with pytest.raises(error), translated_errors():
            await served.stub.Score(pb.ScoreRequest(model="job-1", messages=messages))
