"""Objects by a tool that is forced by its name, and by a JSON schema; in pieces, too."""

import os
from typing import Literal

import instructor
import openai
from pydantic import BaseModel, ConfigDict

BASE_URL, MODEL = os.environ["BASE_URL"], os.environ["MODEL"]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class Place(BaseModel):
    """A place."""

    # Else the demo model may go on with properties of its own for ever.
    model_config = ConfigDict(extra="forbid")

    kind: Literal["city", "country"]
    name: Literal["Paris", "Rome"]


for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    sdk = openai.OpenAI(base_url=BASE_URL, max_retries=0)
    client = instructor.from_openai(sdk, mode=mode)
    ask = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_retries": 0}
    assert isinstance(client.chat.completions.create(response_model=Place, **ask), Place), mode
    *_, last = client.chat.completions.create_partial(response_model=Place, **ask)
    assert last.name in ("Paris", "Rome"), mode
