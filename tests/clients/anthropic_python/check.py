"""The official SDK over /v1/messages: streams, tools, counts, errors."""

import os

import anthropic

MODEL = os.environ["MODEL"]
client = anthropic.Anthropic(base_url=os.environ["BASE_URL"].removesuffix("/v1"), max_retries=0)
# Its methods have no temperature any more, requests still do.
ask = {"model": MODEL, "max_tokens": 100, "extra_body": {"temperature": 0}}
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "name": "get_weather",
    "description": "Get the weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}

answer = client.messages.create(messages=QUESTION, **ask)
assert "Paris" in answer.content[0].text
assert answer.stop_reason == "end_turn"
with client.messages.stream(messages=QUESTION, **ask) as stream:
    assert "".join(stream.text_stream) == answer.content[0].text
    assert stream.get_final_message().usage.output_tokens == answer.usage.output_tokens
counted = client.messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens
used = answer.usage
assert counted == used.input_tokens + used.cache_read_input_tokens

messages = [{"role": "user", "content": "What is the weather in Paris?"}]
called = client.messages.create(messages=messages, tools=[WEATHER], **ask)
assert called.stop_reason == "tool_use"
call = next(block for block in called.content if block.type == "tool_use")
assert call.input == {"city": "Paris"}
result = {"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees and sunny"}
messages += [
    {"role": "assistant", "content": called.content},
    {"role": "user", "content": [result]},
]
last = client.messages.create(messages=messages, tools=[WEATHER], **ask)
assert "sunny" in last.content[0].text


@anthropic.beta_tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"21 degrees and sunny in {city}"


messages = [{"role": "user", "content": "What is the weather in Paris?"}]
for stream in (False, True):
    runner = client.beta.messages.tool_runner(
        messages=messages, tools=[get_weather], stream=stream, **ask
    )
    assert "sunny" in runner.until_done().content[0].text
assert MODEL in {model.id for model in client.models.list()}
for kind, fields in (
    (anthropic.NotFoundError, {**ask, "model": "nobody"}),
    (anthropic.BadRequestError, {**ask, "extra_body": {"temperature": 3}}),
):
    try:
        client.messages.create(messages=QUESTION, **fields)
    except kind as error:
        assert error.body["type"] == "error"
    else:
        raise AssertionError(f"no {kind.__name__}")
