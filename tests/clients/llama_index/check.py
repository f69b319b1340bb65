"""OpenAILike, for chats, completions and tools, and its embeddings."""

import os

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

BASE_URL, MODEL, EMBED_MODEL = (os.environ[name] for name in ("BASE_URL", "MODEL", "EMBED_MODEL"))
shared = {
    "model": MODEL,
    "api_base": BASE_URL,
    "api_key": "none",
    "temperature": 0,
    "max_retries": 0,
}
llm = OpenAILike(is_chat_model=True, is_function_calling_model=True, **shared)
question = [ChatMessage(role="user", content="What is the capital of France?")]


def get_weather(city: str) -> str:
    """Get the weather in a city"""
    return f"sunny in {city}"


answer = llm.chat(question)
assert "Paris" in answer.message.content
*_, last = llm.stream_chat(question)
assert last.message.content == answer.message.content

tool = FunctionTool.from_defaults(get_weather)
called = llm.chat_with_tools([tool], user_msg="What is the weather in Paris?")
(call,) = llm.get_tool_calls_from_response(called)
assert call.tool_kwargs == {"city": "Paris"}

plain = OpenAILike(is_chat_model=False, max_tokens=4, **shared)
assert plain.complete("One two three").text
assert "".join(piece.delta for piece in plain.stream_complete("One two three"))

vectors = OpenAILikeEmbedding(model_name=EMBED_MODEL, api_base=BASE_URL, api_key="none")
assert len(vectors.get_text_embedding_batch(["a", "b"])) == 2
