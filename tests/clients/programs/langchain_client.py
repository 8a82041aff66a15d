"""LangChain's ChatOpenAI: an answer, a stream, likelihoods, and JSON of a schema."""

import os

from langchain_openai import ChatOpenAI
from pydantic import BaseModel

chat = ChatOpenAI(
    base_url=f"{os.environ['CORRAL_GATEWAY']}/v1",
    api_key="none",
    model=os.environ["CORRAL_MODEL"],
    max_tokens=60,
    temperature=0,
)


class Colour(BaseModel):
    """A colour."""

    warm: bool


whole = chat.invoke([("user", "Say a")])
assert whole.usage_metadata["output_tokens"] <= 60
assert "".join(piece.content for piece in chat.stream([("user", "Say a")])) == whole.content
likely = chat.bind(logprobs=True, top_logprobs=2).invoke([("user", "Say a")])
assert likely.response_metadata["logprobs"]["content"]
found = chat.with_structured_output(Colour, method="json_schema").invoke([("user", "Say a")])
assert found.warm in (True, False)
