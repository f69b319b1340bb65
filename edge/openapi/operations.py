"""What every handler is said to do. A test fails where a route's handler is missing here.

They stand here and not beside the handlers because the types of what is answered are of no use to
an edge that nobody asks for its description.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from edge.anthropic.request import CountRequest, MessagesRequest
from edge.anthropic.schemas import (
    ErrorAnswer,
    MessageAnswer,
    MessageEvent,
    ModelAnswer,
    ModelPage,
    TokenCount,
)
from edge.api import (
    chat,
    completions,
    docs,
    embeddings,
    home,
    infill,
    messages,
    models,
    rerank,
    responses,
    system,
    tokens,
)
from edge.openai.chat_request import ChatRequest
from edge.openai.completion_request import CompletionRequest
from edge.openai.embedding_request import EmbeddingRequest
from edge.openai.infill_request import InfillRequest
from edge.openai.rerank_request import RerankRequest
from edge.openai.schemas.chat import ChatChunk, ChatCompletion
from edge.openai.schemas.common import Error
from edge.openai.schemas.completions import Completion, CompletionChunk
from edge.openai.schemas.embeddings import EmbeddingList
from edge.openai.schemas.infill import Infill, InfillEvent
from edge.openai.schemas.models import Model, ModelList, Props
from edge.openai.schemas.rerank import Ranking
from edge.openai.schemas.responses import (
    DeletedResponse,
    InputItemList,
    InputTokens,
    Response,
    StreamEvent,
)
from edge.openai.schemas.system import (
    About,
    Health,
    Live,
    ModelVersions,
    Readiness,
    Ready,
    Status,
)
from edge.openai.schemas.tokens import Detokenized, Rendered, Tokenized
from edge.openai.token_request import DetokenizeRequest, TokenizeChatRequest, TokenizeRequest
from edge.openapi.operation import Operation, Parameter
from edge.responses import request as responses_request
from edge.responses.items import DEFAULT_LIMIT, MAX_LIMIT
from edge.routes import Handler

_QUESTION: Final = "What is the capital of France?"
_MODEL: Final = {"model": "caravan-demo"}
_CHAT: Final = {**_MODEL, "messages": [{"role": "user", "content": _QUESTION}]}

_MODEL_ID: Final = Parameter("id", "path", str, "The model's name; it may contain slashes.")
_NO_MODEL: Final = ((404, None), (503, None))
_ANTHROPIC: Final = Parameter(
    "anthropic-version", "header", str, "Where it is sent, the answer has Anthropic's form."
)
_EITHER: Final = Error | ErrorAnswer
_ONE_MODEL: Final = "`model` may be absent where one is served."
_RESPONSE_ID: Final = Parameter("response_id", "path", str, "The response's id.")
# The store of responses may be out of reach.
_NO_RESPONSE: Final = ((400, None), (404, None), (503, None))

_DONE: Final = (
    "Sent instead of one answer where `stream` is true: server-sent events, each with one of these "
    "as its `data`; comments in silence; at last `data: [DONE]`, or an error's body as `data` and "
    "no `[DONE]`."
)
_PIECES: Final = (
    "Sent instead of one answer where `stream` is true: server-sent events, each with one of these "
    "as its `data`; comments in silence; at last one whose `stop` is true, or an error's body."
)
_NAMED: Final = (
    "Sent instead of one answer where `stream` is true: server-sent events, each with the name that "
    "is the `type` of its `data`; "
)
_EVENTS: Final = _NAMED + "`ping` in silence; at last `message_stop` or `error`."
_RESPONSE_EVENTS: Final = (
    _NAMED + "comments in silence; at last `response.completed`, `response.incomplete` or "
    "`response.failed`."
)

_GENERATION: Final[dict[Handler, Operation]] = {
    chat.chat_completions: Operation(
        "Chat",
        "Create a chat completion",
        "Answers a conversation: text, calls of tools, thoughts, or JSON that satisfies a schema.",
        request=ChatRequest,
        example=_CHAT,
        response=ChatCompletion,
        events=ChatChunk,
        done=_DONE,
    ),
    completions.completions: Operation(
        "Completions",
        "Create a completion",
        "Goes on with a text, or fills the gap between two.",
        request=CompletionRequest,
        example={**_MODEL, "prompt": "The capital of France is", "max_tokens": 8},
        response=Completion,
        events=CompletionChunk,
        done=_DONE,
    ),
    infill.infill: Operation(
        "Completions",
        "Fill a gap",
        "What llama.cpp's server has: fills the gap between two texts, knowing other files.",
        request=InfillRequest,
        example={**_MODEL, "input_prefix": "The capital of France", "input_suffix": " Paris."},
        response=Infill,
        events=InfillEvent,
        done=_PIECES,
    ),
    messages.messages: Operation(
        "Messages",
        "Create a message",
        "Anthropic's API: answers a conversation with text, calls of tools and thoughts.",
        request=MessagesRequest,
        example={**_CHAT, "max_tokens": 100},
        response=MessageAnswer,
        events=MessageEvent,
        done=_EVENTS,
    ),
    messages.count_tokens: Operation(
        "Messages",
        "Count a prompt's tokens",
        request=CountRequest,
        example=_CHAT,
        response=TokenCount,
    ),
}

_RESPONSES: Final[dict[Handler, Operation]] = {
    responses.create: Operation(
        "Responses",
        "Create a response",
        "Goes on from `previous_response_id`, where there is one. With `background` it is answered "
        "at once, and asked for later.",
        request=responses_request.ResponseRequest,
        example={**_MODEL, "input": _QUESTION},
        response=Response,
        events=StreamEvent,
        done=_RESPONSE_EVENTS,
    ),
    responses.count: Operation(
        "Responses",
        "Count a response's input tokens",
        request=responses_request.CountRequest,
        example={**_MODEL, "input": _QUESTION},
        response=InputTokens,
    ),
    responses.retrieve: Operation(
        "Responses",
        "Retrieve a stored response",
        parameters=(
            _RESPONSE_ID,
            Parameter(
                "stream",
                "query",
                Literal["true", "false"],
                "Whether to send its events again; it must have been made in the background.",
            ),
            Parameter(
                "starting_after",
                "query",
                Annotated[int, Field(ge=0, le=2**31 - 1)],
                "The number of the last event that is known.",
            ),
        ),
        response=Response,
        events=StreamEvent,
        done=_RESPONSE_EVENTS,
        also=_NO_RESPONSE,
    ),
    responses.delete: Operation(
        "Responses",
        "Delete a stored response",
        parameters=(_RESPONSE_ID,),
        response=DeletedResponse,
        also=_NO_RESPONSE,
    ),
    responses.cancel: Operation(
        "Responses",
        "Cancel a response that is made in the background",
        parameters=(_RESPONSE_ID,),
        response=Response,
        also=_NO_RESPONSE,
    ),
    responses.input_items: Operation(
        "Responses",
        "List what a stored response was made from",
        parameters=(
            _RESPONSE_ID,
            Parameter(
                "limit",
                "query",
                Annotated[int, Field(ge=1, le=MAX_LIMIT)],
                f"Most items to list; {DEFAULT_LIMIT} if it is absent.",
            ),
            Parameter(
                "order", "query", Literal["asc", "desc"], "The last first (`desc`), or the first."
            ),
            Parameter("after", "query", str, "The id of the item behind which to begin."),
        ),
        response=InputItemList,
        also=_NO_RESPONSE,
    ),
}

_VECTORS: Final[dict[Handler, Operation]] = {
    embeddings.embeddings: Operation(
        "Embeddings",
        "Create embeddings",
        request=EmbeddingRequest,
        example={"model": "caravan-demo-embed", "input": ["A text", "and another"]},
        response=EmbeddingList,
    ),
    rerank.rerank: Operation(
        "Embeddings",
        "Rank documents by how well they fit a query",
        "In Cohere's form, which is also Jina's.",
        request=RerankRequest,
        example={
            "model": "caravan-demo-embed",
            "query": _QUESTION,
            "documents": ["Paris is the capital of France.", "Elephants are large."],
        },
        response=Ranking,
    ),
    tokens.tokenize: Operation(
        "Tokens",
        "Tokenize texts, or a conversation",
        _ONE_MODEL,
        request=TokenizeRequest | TokenizeChatRequest,
        example={**_MODEL, "prompt": _QUESTION},
        response=Tokenized,
    ),
    tokens.detokenize: Operation(
        "Tokens",
        "The text of tokens",
        _ONE_MODEL,
        request=DetokenizeRequest,
        example={**_MODEL, "tokens": [72, 105]},
        response=Detokenized,
    ),
    tokens.apply_template: Operation(
        "Tokens",
        "What the model would read of a conversation",
        _ONE_MODEL,
        request=ChatRequest,
        example=_CHAT,
        response=Rendered,
    ),
}

_MODELS: Final[dict[Handler, Operation]] = {
    models.list_models: Operation(
        "Models",
        "List the models",
        parameters=(
            _ANTHROPIC,
            *(
                Parameter(name, "query", kind, "In Anthropic's form only.")
                for name, kind in (
                    ("limit", Annotated[int, Field(ge=1, le=1000)]),
                    ("after_id", str),
                    ("before_id", str),
                )
            ),
        ),
        response=ModelList | ModelPage,
        also=((400, _EITHER),),
    ),
    models.retrieve_model: Operation(
        "Models",
        "Retrieve a model",
        parameters=(_MODEL_ID, _ANTHROPIC),
        response=Model | ModelAnswer,
        also=((404, _EITHER), (503, None), (529, ErrorAnswer)),
    ),
    models.delete_model: Operation(
        "Models",
        "Always refused",
        "What a worker serves is its operator's to say.",
        parameters=(_MODEL_ID,),
        also=((403, None), *_NO_MODEL),
    ),
    models.props: Operation(
        "Models",
        "A model's properties, in the words of llama.cpp's server",
        parameters=(Parameter("model", "query", str, "Needed where several are served."),),
        response=Props,
        also=((400, None), *_NO_MODEL),
    ),
}

_SERVER: Final[dict[Handler, Operation]] = {
    home.about: Operation(
        "Server", "What this is and how to call it", "HTML for browsers.", response=About
    ),
    system.health: Operation("Server", "Whether the process is up", response=Health),
    system.ready: Operation(
        "Server", "Whether a worker can answer", response=Readiness, also=((503, Readiness),)
    ),
    system.metrics: Operation("Server", "Metrics for Prometheus", response=str, media="text/plain"),
    docs.openapi: Operation("Server", "This description", response=dict[str, Any]),
    docs.page: Operation("Server", "This description, for people", response=str, media="text/html"),
    system.live: Operation(
        "Other servers' addresses", "As OpenVINO's: whether the process is up", response=Live
    ),
    system.config: Operation(
        "Other servers' addresses",
        "As OpenVINO's: the models and their states",
        response=dict[str, ModelVersions],
    ),
    system.is_ready: Operation(
        "Other servers' addresses",
        "As Aana's: whether a worker can answer",
        response=Ready,
        also=((503, Ready),),
    ),
    system.status: Operation(
        "Other servers' addresses", "As Aana's: how the server is", response=Status
    ),
}

OPERATIONS: Final[dict[Handler, Operation]] = {
    **_GENERATION,
    **_RESPONSES,
    **_VECTORS,
    **_MODELS,
    **_SERVER,
}
