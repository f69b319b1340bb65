"""The conversations that bench.template_fidelity renders: OpenAI chat bodies, without a model."""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]
Turn = dict[str, Any]

_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city, today.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city."},
                "unit": {"type": "string", "enum": ["c", "f"], "description": "Of degrees."},
                "days": {"type": "integer", "default": 1, "description": "How many."},
            },
            "required": ["city"],
        },
    },
}
_SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches “notes” & <files>.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What to find."},
                "tags": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "All of these.",
                },
            },
            "required": ["query"],
        },
    },
}
TOOLS = [_WEATHER, _SEARCH]


def _system(text: str = "Be brief.") -> Turn:
    return {"role": "system", "content": text}


def _user(text: str = "What is a caravan?") -> Turn:
    return {"role": "user", "content": text}


def _assistant(text: str = "A group that travels together.", **more: Any) -> Turn:
    return {"role": "assistant", "content": text, **more}


def _call(at: int, name: str, arguments: str) -> Turn:
    # Nine letters and digits: Mistral's templates refuse other ids.
    function = {"name": name, "arguments": arguments}
    return {"id": f"callid00{at}", "type": "function", "function": function}


def _calls(*calls: Turn, **more: Any) -> Turn:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


def _result(at: int, text: str) -> Turn:
    return {"role": "tool", "tool_call_id": f"callid00{at}", "content": text}


_OSLO = _call(1, "get_weather", '{"city": "Oslo", "unit": "c", "days": 2}')
_NOTES = _call(2, "search", '{"query": "packing “list”", "tags": ["trip", "ski"]}')
_ASKED = _user("How is the weather in Oslo?")
_SUNNY = _result(1, '{"sky": "sunny", "degrees": 21.5}')
_FOUND = _result(2, "skis, boots")
_ON = {"chat_template_kwargs": {"enable_thinking": True}}
_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
_DOCUMENTS = [{"doc_id": "1", "title": "Trade", "text": "Salt went south.", "id": "1"}]

CONVERSATIONS: dict[str, Body] = {
    "plain": {"messages": [_user()], **_ON},
    # Where thinking is not named each side has its own default: here alone.
    "default": {"messages": [_user()]},
    "multi-turn": {"messages": [_system(), _user(), _assistant(), _user("How many?")], **_ON},
    # llama-server continues a last message of the assistant whatever it is told.
    "no-generation-prompt": {
        "messages": [_user(), _assistant(), _user("How many?")],
        "add_generation_prompt": False,
        **_ON,
    },
    "parts": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Read this."},
                    {"type": "text", "text": "Then answer: how many?"},
                ],
            }
        ],
        **_ON,
    },
    "developer": {"messages": [{"role": "developer", "content": "Be kind."}, _user()], **_ON},
    "tools": {"messages": [_ASKED], "tools": TOOLS, **_ON},
    "tools-system": {"messages": [_system(), _ASKED], "tools": TOOLS, **_ON},
    "call": {"messages": [_ASKED, _calls(_OSLO), _SUNNY], "tools": TOOLS, **_ON},
    "call-answered": {
        "messages": [
            _system(),
            _ASKED,
            _calls(_OSLO),
            _SUNNY,
            _assistant("Sunny, 21.5 degrees."),
            _user("And tomorrow?"),
        ],
        "tools": TOOLS,
        **_ON,
    },
    "call-with-text": {
        "messages": [_ASKED, {**_calls(_OSLO), "content": "Let me look."}, _SUNNY],
        "tools": TOOLS,
        **_ON,
    },
    "calls": {
        "messages": [_ASKED, _calls(_OSLO, _NOTES), _SUNNY, _FOUND],
        "tools": TOOLS,
        **_ON,
    },
    "thinking-on": {"messages": [_system(), _user()], **_ON},
    "thinking-off": {"messages": [_system(), _user()], **_OFF},
    "tools-thinking-off": {"messages": [_ASKED], "tools": TOOLS, **_OFF},
    "reasoning-before": {
        "messages": [_user(), _assistant(reasoning_content="They travel."), _user("How many?")],
        **_ON,
    },
    "reasoning-call": {
        "messages": [_ASKED, _calls(_OSLO, reasoning_content="I need the weather."), _SUNNY],
        "tools": TOOLS,
        **_ON,
    },
    "effort": {"messages": [_user()], "reasoning_effort": "high", **_ON},
    "documents": {
        "messages": [_user()],
        "chat_template_kwargs": {"documents": _DOCUMENTS, "enable_thinking": True},
    },
    "continue": {
        "messages": [_user("Tell a story."), _assistant("Once upon a")],
        "continue_final_message": True,
        **_OFF,
    },
    "continue-thinking": {
        "messages": [_user("Tell a story."), _assistant("", reasoning_content="A hero who")],
        "continue_final_message": True,
        **_ON,
    },
}

# Those beyond what everybody sends: plain and system messages, turns, tools, calls, results and
# thinking on and off.
BEYOND = frozenset(
    (
        *("default", "no-generation-prompt", "parts", "developer", "calls", "effort", "documents"),
        *("continue", "continue-thinking"),
    )
)
