"""What the scripted backend does with a request: a plain description, made by tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from protos.inference.v1 import inference_pb2 as pb

# Before `started`.
ADMISSION = -1


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A tool call; `arguments` are the fragments it arrives in."""

    name: str
    arguments: Sequence[str] = ("{}",)


@dataclass(frozen=True, slots=True)
class Script:
    """One answer. Every choice of a request gets the same, its tokens interleaved.

    Places are counted per choice: token 0 is the first, ADMISSION is before `started`.
    """

    tokens: Sequence[str] = ("Hello", ",", " world", "!")
    # Tokens of thinking that come before `tokens`; places are counted over both.
    reasoning: Sequence[str] = ()
    # Come after the tokens; the finish reason is then TOOL_CALLS.
    tool_calls: Sequence[ScriptedCall] = ()
    # Starts `tokens` again at their end until max_tokens, else for ever. `ignore_eos` does, too.
    endless: bool = False
    prompt_tokens: int = 5
    cached_tokens: int = 0
    # None: STOP, LENGTH after max_tokens, TOOL_CALLS where there are some.
    finish: pb.FinishReason.ValueType | None = None
    matched_stop: str = ""
    # Seconds before each token.
    interval: float = 0.0
    # Each token waits for ScriptedBackend.step().
    paced: bool = False
    # Raises this before the token at the place.
    errors: Mapping[int, Exception] = field(default_factory=dict)
    # Waits for ever before the token at this place.
    hang_at: int | None = None


# What to do with a request: the same always, or as the request says.
Scripts = Script | Callable[[pb.GenerateRequest], Script]


def echo(request: pb.GenerateRequest) -> Script:
    """Answers with the words of the prompt, or of the last message."""
    text = request.text.text
    if request.HasField("chat"):
        text = "".join(part.text for part in request.chat.messages[-1].content)
    words = text.split(" ")
    tokens = [word if at == 0 else f" {word}" for at, word in enumerate(words)]
    return Script(tokens=tokens, prompt_tokens=len(words))
