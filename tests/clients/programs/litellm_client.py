"""LiteLLM: chat in whole, streamed, and a raw completion."""

import os

import litellm

CALL = {
    "api_base": f"{os.environ['CORRAL_GATEWAY']}/v1",
    "api_key": "none",
    "max_tokens": 5,
    "temperature": 0,
}
MODEL = os.environ["CORRAL_MODEL"]
MESSAGES = [{"role": "user", "content": "Say a"}]

whole = litellm.completion(model=f"openai/{MODEL}", messages=MESSAGES, **CALL)
assert whole.usage.completion_tokens <= 5
pieces = [
    chunk.choices[0].delta.content or ""
    for chunk in litellm.completion(model=f"openai/{MODEL}", messages=MESSAGES, stream=True, **CALL)
]
assert "".join(pieces) == whole.choices[0].message.content
raw = litellm.text_completion(model=f"text-completion-openai/{MODEL}", prompt="Say", **CALL)
assert raw.choices[0].finish_reason in ("stop", "length")
try:
    litellm.completion(model="openai/nothing", messages=MESSAGES, **CALL)
except litellm.NotFoundError:
    pass
else:
    raise AssertionError("an unknown model answered")
