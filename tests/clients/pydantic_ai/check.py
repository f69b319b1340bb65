"""Agents with tools and typed results: tool_choice required, strict schemas, streams."""

import asyncio
import os
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import Agent, ModelSettings, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

BASE_URL, MODEL = os.environ["BASE_URL"], os.environ["MODEL"]
QUESTION = "What is the capital of France?"
provider = OpenAIProvider(base_url=BASE_URL, api_key="none")
settings = ModelSettings(temperature=0, max_tokens=200)


class Place(BaseModel):
    """A place."""

    name: Literal["Paris", "Rome"]


async def main() -> None:
    for model in (
        OpenAIChatModel(MODEL, provider=provider),
        OpenAIResponsesModel(MODEL, provider=provider),
    ):
        plain = Agent(model, model_settings=settings)
        result = await plain.run(QUESTION)
        assert "Paris" in result.output
        assert result.usage().output_tokens > 0
        async with plain.run_stream(QUESTION) as stream:
            assert await stream.get_output() == result.output

        typed = Agent(model, output_type=Place, model_settings=settings)
        assert isinstance((await typed.run(QUESTION)).output, Place)
        native = Agent(model, output_type=NativeOutput(Place), model_settings=settings)
        assert isinstance((await native.run(QUESTION)).output, Place)

        cities = []
        able = Agent(model, model_settings=settings)

        @able.tool_plain
        def get_weather(city: str) -> str:
            """Get the weather in a city"""
            cities.append(city)  # noqa: B023
            return "21 degrees and sunny"

        assert "sunny" in (await able.run("What is the weather in Paris?")).output
        assert cities == ["Paris"]


asyncio.run(main())
