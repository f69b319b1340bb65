"""Agents over the Responses API, its default, and over chats: tools, typed results, streams, sessions."""

import asyncio
import os
from typing import Literal

from agents import (
    Agent,
    ModelSettings,
    Runner,
    SQLiteSession,
    function_tool,
    set_default_openai_api,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

MODEL = os.environ["MODEL"]
set_default_openai_client(AsyncOpenAI(base_url=os.environ["BASE_URL"], max_retries=0))
set_tracing_disabled(True)
settings = ModelSettings(temperature=0, max_tokens=200)
cities = []


class Place(BaseModel):
    name: Literal["Paris", "Rome"]


@function_tool
def get_weather(city: str) -> str:
    """Get the weather in a city"""
    cities.append(city)
    return "21 degrees and sunny"


async def main() -> None:
    for api in ("responses", "chat_completions"):
        set_default_openai_api(api)
        plain = Agent(name="plain", model=MODEL, model_settings=settings)
        assert "Paris" in (await Runner.run(plain, "What is the capital of France?")).final_output
        able = Agent(name="able", model=MODEL, tools=[get_weather], model_settings=settings)
        cities.clear()
        result = await Runner.run(able, "What is the weather in Paris?")
        assert cities == ["Paris"], cities
        assert "sunny" in result.final_output
        streamed = Runner.run_streamed(able, "What is the weather in Rome?")
        kinds = [event.type async for event in streamed.stream_events()]
        assert "raw_response_event" in kinds
        assert "Rome" in cities
        typed = Agent(name="typed", model=MODEL, output_type=Place, model_settings=settings)
        assert isinstance((await Runner.run(typed, "Hello!")).final_output, Place)
        session = SQLiteSession(api)
        await Runner.run(plain, "My name is Ada.", session=session)
        last = await Runner.run(plain, "What is my name?", session=session)
        assert "Ada" in last.final_output, last.final_output


asyncio.run(main())
