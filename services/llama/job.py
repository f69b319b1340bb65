"""What the event loop hands to the engine: a request, checked and tokenized."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from services.llama.interface import Grammar
from services.llama.lookup import SpeculationParams
from services.llama.media.layout import PLAIN, Layout
from services.llama.reading import Reading
from services.llama.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class StopParams:
    """When a choice ends. Fields as in the contract."""

    # None: what the context leaves.
    max_tokens: int | None = None
    min_tokens: int = 0
    strings: tuple[str, ...] = ()
    token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    include_matched: bool = False


@dataclass(frozen=True, slots=True)
class OutputParams:
    """What comes back besides text. Fields as in the contract."""

    token_ids: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    prompt_logprobs: bool = False
    skip_special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a choice stood that another worker began."""

    token_ids: Sequence[int]
    # UTF-8 bytes of its text that need not be sent again.
    delivered_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A request to generate one or several choices."""

    # At least 1, fewer than the context; stand-ins where `layout` has an image or a sound.
    prompt: Sequence[int]
    # Indices of the choices to generate.
    choices: tuple[int, ...] = (0,)
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: StopParams = field(default_factory=StopParams)
    output: OutputParams = field(default_factory=OutputParams)
    speculation: SpeculationParams = field(default_factory=SpeculationParams)
    # What the text must look like. None: anything.
    grammar: Grammar | None = None
    # How a chat's answer is read. None: all text is content.
    reading: Reading | None = None
    # By choice.
    resumed: Mapping[int, Resumed] = field(default_factory=dict)
    tenant: str = ""
    # Higher goes first.
    priority: int = 0
    # Cells are shared only within it.
    namespace: str = ""
    # Name of a LoRA adapter; "" none.
    adapter: str = ""
    # On time.monotonic(), seconds. None: no deadline.
    deadline: float | None = None
    # Images and sounds in the prompt. The last token is none.
    layout: Layout = PLAIN

    def limit(self, context: int) -> int:
        """Most tokens of the prompt and an answer together."""
        wanted = self.stop.max_tokens
        return context if wanted is None else min(context, len(self.prompt) + wanted)

    @property
    def cells_of(self) -> Hashable:
        """Whose cells may be its own: an adapter changes keys and values, too."""
        return self.namespace, self.adapter

    @property
    def words(self) -> Sequence[int]:
        """The prompt's tokens, without stand-ins."""
        return [token for token in self.prompt if token >= 0] if self.layout else self.prompt
