"""ChatOpenAI and OpenAIEmbeddings: usage of streams, tools, structured output."""

import os
from typing import Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

BASE_URL, MODEL, EMBED_MODEL = (os.environ[name] for name in ("BASE_URL", "MODEL", "EMBED_MODEL"))
chat = ChatOpenAI(base_url=BASE_URL, model=MODEL, temperature=0, max_retries=0)


class Place(BaseModel):
    """A place."""

    # What is told in free text the demo model may tell for ever.
    name: Literal["Paris", "Rome"]


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city"""
    return "21 degrees and sunny"


answer = chat.invoke("What is the capital of France?")
assert "Paris" in answer.content
assert answer.usage_metadata["output_tokens"] > 0

chunks = list(chat.stream("What is the capital of France?", stream_usage=True))
assert "".join(chunk.content for chunk in chunks) == answer.content
assert any(chunk.usage_metadata for chunk in chunks)

question = HumanMessage("What is the weather in Paris?")
able = chat.bind_tools([get_weather])
called = able.invoke([question])
(call,) = called.tool_calls
assert call["args"] == {"city": "Paris"}
said = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
assert "sunny" in able.invoke([question, called, said]).content
forced = chat.bind_tools([get_weather], tool_choice="get_weather").invoke("Hello!")
assert forced.tool_calls[0]["name"] == "get_weather"

for method in ("json_schema", "function_calling"):
    asked = chat.with_structured_output(Place, method=method)
    found = asked.invoke("What is the capital of France?")
    assert isinstance(found, Place), (method, found)

responses = ChatOpenAI(base_url=BASE_URL, model=MODEL, temperature=0, use_responses_api=True)
assert "Paris" in responses.invoke("What is the capital of France?").text

# Its own tokenizer is for OpenAI's models only.
vectors = OpenAIEmbeddings(base_url=BASE_URL, model=EMBED_MODEL, check_embedding_ctx_length=False)
assert len(vectors.embed_documents(["a", "b"])) == 2
