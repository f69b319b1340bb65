"""Its own shape over the provider `openai`: chats, streams, tools, vectors, responses, messages."""

import asyncio
import json
import os

import litellm

BASE_URL, MODEL, EMBED_MODEL = (os.environ[name] for name in ("BASE_URL", "MODEL", "EMBED_MODEL"))
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
ask = {"model": f"openai/{MODEL}", "api_base": BASE_URL, "api_key": "none", "temperature": 0}

answer = litellm.completion(messages=QUESTION, **ask)
assert "Paris" in answer.choices[0].message.content
chunks = list(
    litellm.completion(
        messages=QUESTION, stream=True, stream_options={"include_usage": True}, **ask
    )
)
assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == (
    answer.choices[0].message.content
)
assert any(getattr(chunk, "usage", None) for chunk in chunks)
called = litellm.completion(
    messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=[WEATHER], **ask
)
(call,) = called.choices[0].message.tool_calls
assert json.loads(call.function.arguments) == {"city": "Paris"}
vectors = litellm.embedding(
    model=f"openai/{EMBED_MODEL}", input=["a", "b"], api_base=BASE_URL, api_key="none",
    encoding_format="float",
)  # fmt: skip
assert len(vectors.data) == 2
assert (
    "Paris" in asyncio.run(litellm.acompletion(messages=QUESTION, **ask)).choices[0].message.content
)
response = litellm.responses(input="What is the capital of France?", **ask)
assert response.status == "completed"
try:
    litellm.completion(**{**ask, "model": "openai/nobody"}, messages=QUESTION)
except litellm.NotFoundError:
    pass
else:
    raise AssertionError("no NotFoundError")
