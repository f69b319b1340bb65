"""The official SDK: every API that it has a method for and this server answers."""

import json
import math
import os
from typing import Literal

import openai
from pydantic import BaseModel

BASE_URL, MODEL, EMBED_MODEL = (os.environ[name] for name in ("BASE_URL", "MODEL", "EMBED_MODEL"))
client = openai.OpenAI(base_url=BASE_URL, max_retries=0, timeout=60)
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
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Place(BaseModel):
    kind: Literal["city", "country"]
    name: Literal["Paris", "Rome"]


def chats() -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    assert "Paris" in answer.choices[0].message.content
    assert answer._request_id
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == answer.choices[0].message.content
    assert chunks[-1].usage.completion_tokens > 0
    parsed = client.chat.completions.parse(model=MODEL, messages=QUESTION, response_format=Place)
    assert isinstance(parsed.choices[0].message.parsed, Place)
    with client.chat.completions.stream(model=MODEL, messages=QUESTION, temperature=0) as stream:
        kinds = {event.type for event in stream}
        assert {"chunk", "content.delta", "content.done"} <= kinds, kinds
        assert stream.get_final_completion().choices[0].message.content == text


def tools() -> None:
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    ask = {"model": MODEL, "temperature": 0, "tools": [WEATHER], "max_tokens": 200}
    message = client.chat.completions.create(messages=messages, **ask).choices[0].message
    (call,) = message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    messages += [
        message,
        {"role": "tool", "tool_call_id": call.id, "content": "21 degrees and sunny"},
    ]
    answer = client.chat.completions.create(messages=messages, **ask)
    assert "sunny" in answer.choices[0].message.content


def responses() -> None:
    first = client.responses.create(model=MODEL, input="My name is Ada.", temperature=0)
    assert first.output_text
    second = client.responses.create(
        model=MODEL, input="What is my name?", previous_response_id=first.id, temperature=0
    )
    assert "Ada" in second.output_text, second.output_text
    assert client.responses.retrieve(first.id).output_text == first.output_text
    with client.responses.stream(model=MODEL, input="Hello!") as stream:
        kinds = [event.type for event in stream]
        assert kinds[0] == "response.created"
        assert stream.get_final_response().status == "completed"
    parsed = client.responses.parse(model=MODEL, input="Where is that?", text_format=Place)
    assert isinstance(parsed.output_parsed, Place)
    client.responses.delete(first.id)


def others() -> None:
    # The SDK asks for base64 by itself.
    vector = client.embeddings.create(model=EMBED_MODEL, input="hello").data[0].embedding
    assert math.isclose(sum(value * value for value in vector), 1, rel_tol=1e-3)
    done = client.completions.create(
        model=MODEL, prompt="One two", max_tokens=4, logprobs=1, echo=True
    )
    assert done.choices[0].text.startswith("One two")
    assert {model.id for model in client.models.list()} >= {MODEL, EMBED_MODEL}
    assert client.models.retrieve(MODEL).id == MODEL


def errors() -> None:
    for kind, code, fields in (
        (openai.NotFoundError, "model_not_found", {"model": "nobody"}),
        (openai.BadRequestError, "invalid_type", {"model": MODEL, "temperature": "hot"}),
    ):
        try:
            client.chat.completions.create(messages=QUESTION, **fields)
        except kind as error:
            assert error.code == code, error
        else:
            raise AssertionError(f"no {kind.__name__}")


def azure() -> None:
    root = BASE_URL.removesuffix("/v1")
    sdk = openai.AzureOpenAI(azure_endpoint=root, api_key="none", api_version="2024-10-21")
    answer = sdk.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    assert "Paris" in answer.choices[0].message.content


for each in (chats, tools, responses, others, errors, azure):
    each()
