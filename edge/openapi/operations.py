"""What every handler is said to do. A test fails where a route's handler is missing here.

They stand here and not beside the handlers because the types of what is answered are of no use to
an edge that nobody asks for its description.
"""

from __future__ import annotations

from typing import Final

from edge.anthropic.request import CountRequest, MessagesRequest
from edge.anthropic.schemas import MessageAnswer, MessageEvent, TokenCount
from edge.api import chat, docs, messages, models, system
from edge.openai.chat_request import ChatRequest
from edge.openai.schemas.chat import ChatChunk, ChatCompletion
from edge.openai.schemas.models import Model, ModelList
from edge.openai.schemas.system import About, Health, Readiness
from edge.openapi.operation import Operation, Parameter
from edge.routes import Handler

_MODEL_ID: Final = Parameter("id", "path", str, "The model's name; it may contain slashes.")
_NO_MODEL: Final = ((404, None), (503, None))
_DONE: Final = (
    "Sent instead of one answer where `stream` is true: server-sent events, each with one of these "
    "as its `data`; comments in silence; at last `data: [DONE]`, or an error's body as `data` and "
    "no `[DONE]`."
)
_EVENTS: Final = (
    "Sent instead of one answer where `stream` is true: server-sent events, each with the name that "
    "is the `type` of its `data`; `ping` in silence; at last `message_stop` or `error`."
)

OPERATIONS: Final[dict[Handler, Operation]] = {
    chat.chat_completions: Operation(
        "Chat",
        "Create a chat completion",
        "Answers a conversation: text, calls of tools, thoughts, or JSON that satisfies a schema.",
        request=ChatRequest,
        example={
            "model": "caravan-demo",
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
        },
        response=ChatCompletion,
        events=ChatChunk,
        done=_DONE,
    ),
    messages.messages: Operation(
        "Messages",
        "Create a message",
        "Anthropic's API: answers a conversation with text, calls of tools and thoughts.",
        request=MessagesRequest,
        example={
            "model": "caravan-demo",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
        },
        response=MessageAnswer,
        events=MessageEvent,
        done=_EVENTS,
    ),
    messages.count_tokens: Operation(
        "Messages",
        "Count a prompt's tokens",
        request=CountRequest,
        example={
            "model": "caravan-demo",
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
        },
        response=TokenCount,
    ),
    models.list_models: Operation("Models", "List the models", response=ModelList),
    models.retrieve_model: Operation(
        "Models", "Retrieve a model", parameters=(_MODEL_ID,), response=Model, also=_NO_MODEL
    ),
    system.about: Operation("Server", "What this is and how to call it", response=About),
    system.health: Operation("Server", "Whether the process is up", response=Health),
    system.ready: Operation(
        "Server",
        "Whether a worker can answer",
        response=Readiness,
        also=((503, Readiness),),
    ),
    system.metrics: Operation("Server", "Metrics for Prometheus", response=str, media="text/plain"),
    docs.openapi: Operation("Server", "This description", response=dict, media="application/json"),
    docs.page: Operation("Server", "This description, for people", response=str, media="text/html"),
}
