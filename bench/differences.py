"""Why some renderings differ from llama-server's: patterns of templates and conversations."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause. Where several fit, the first in REASONS counts."""

    name: str
    # Pairs of patterns: (template, conversation).
    where: tuple[tuple[str, str], ...]
    # What llama-server leaves out of what was said, any of these, so that there is nothing to
    # compare.
    lost: tuple[str, ...] = ()
    # Whether llama-server fails, which is nothing to compare either.
    fails: bool = False

    def fits(self, template: str, conversation: str) -> bool:
        """Whether it may explain this one."""
        return any(
            fnmatch(template, one) and any(fnmatch(conversation, c) for c in other.split())
            for one, other in self.where
        )

    def holds(self, ours: str | None, theirs: str | None) -> bool:
        """Whether it does: what they are said to leave out is not in theirs as often as in ours."""
        if self.fails:
            return theirs is None and ours is not None
        return not self.lost or any(
            (theirs or "").count(text) < (ours or "").count(text) for text in self.lost
        )


_TOOLS = "tools* call* reasoning-call"
_CALLS = "call* reasoning-call"

_DEFAULT = (
    "Bielik-11B-v3.0-Instruct",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "Qwen-QwQ-32B",
    "Reka-Edge",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
    "deepseek-ai-DeepSeek-V3.1",
    "deepseek-ai-DeepSeek-V3.2",
    "deepseek-ai-DeepSeek-V4",
    "deepseek-ai-DeepSeek-V4-Flash-0731",
    "google-gemma-4-31B-it",
    "google-gemma-4-31B-it-interleaved",
    "llama-cpp-rwkv-world",
    "openbmb-MiniCPM5-1B",
    "poolside-Laguna-XS-2.1",
    "poolside-Laguna-XS.2",
)
_CONTINUED = (
    "Apriel-1.6-15b-Thinker-fixed",
    "Bielik-11B-v3.0-Instruct",
    "ByteDance-Seed-OSS",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "GLM-4.7-Flash",
    "HuggingFaceTB-SmolLM3-3B",
    "Kimi-K2-Instruct",
    "Kimi-K3",
    "LFM2-8B-A1B",
    "LFM2.5-8B-A1B",
    "LFM2.5-Instruct",
    "MiniMax-M3",
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "NVIDIA-Nemotron-Nano-v2",
    "Qwen-QwQ-32B",
    "Reka-Edge",
    "Spark2.5",
    "StepFun3.5-Flash",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
    "ibm-granite-granite-3.3-2B-Instruct",
    "llama-cpp-deepseek-r1",
    "llama-cpp-rwkv-world",
    "microsoft-Phi-3.5-mini-instruct",
    "mistralai-Ministral-3-14B-Reasoning-2512",
    "moonshotai-Kimi-K2",
    "muse-glimmer",
    "openai-gpt-oss-120b",
    "poolside-Laguna-S-2.1",
    "poolside-Laguna-XS-2.1",
    "poolside-Laguna-XS.2",
    "unsloth-mistral-Devstral-Small-2507",
    "upstage-Solar-Open-100B",
)
_CONTINUED_THINKING = (
    "Apriel-1.6-15b-Thinker-fixed",
    "GLM-4.6",
    "Kimi-K2-Instruct",
    "LFM2-8B-A1B",
    "LFM2.5-Instruct",
    "Qwen-QwQ-32B",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
    "ibm-granite-granite-3.3-2B-Instruct",
    "llama-cpp-deepseek-r1",
    "llama-cpp-rwkv-world",
    "meetkai-functionary-medium-v3.2",
    "microsoft-Phi-3.5-mini-instruct",
    "moonshotai-Kimi-K2",
    "poolside-Laguna-XS-2.1",
    "poolside-Laguna-XS.2",
    "unsloth-mistral-Devstral-Small-2507",
    "upstage-Solar-Open-100B",
)

REASONS = (
    Reason(
        "tools left out",
        tuple(
            (template, _TOOLS)
            for template in (
                "HuggingFaceTB-SmolLM3-3B",
                "deepseek-ai-DeepSeek-R1-Distill-*",
                "deepseek-ai-DeepSeek-V3.1",
                "fireworks-ai-llama-3-firefunction-v2",
                "google-gemma-2-2b-it",
                "llama-cpp-rwkv-world",
                "microsoft-Phi-3.5-mini-instruct",
            )
        ),
        lost=("Weather of a city",),
    ),
    Reason(
        "calls left out",
        (
            ("LFM2-8B-A1B", _CALLS),
            ("LFM2.5-Instruct", _CALLS),
            ("ibm-granite-granite-3.3*", _CALLS),
        ),
        lost=("Oslo",),
    ),
    Reason(
        "llama-server fails",
        (
            ("CohereForAI-c4ai-command-r-plus*", _TOOLS),
            ("meta-llama-*", "calls"),
        ),
        fails=True,
    ),
    Reason(
        "calls one by one",
        tuple((t, "calls") for t in ("GigaChat3*", "openai-gpt-oss-120b")),
    ),
    Reason("thinking unless told", tuple((t, "default") for t in _DEFAULT)),
    Reason(
        "other names of the switch",
        (
            ("ByteDance-Seed-OSS", "*thinking-off continue"),
            ("Kimi-K3", "*thinking-off continue"),
            ("MiniMax-M3", "*thinking-off continue"),
            ("ibm-granite-granite-3.3*", "plain no-gen* parts reasoning-before effort continue*"),
        ),
    ),
    Reason(
        "continued",
        (
            *((t, "continue") for t in _CONTINUED),
            *((t, "continue-thinking") for t in _CONTINUED_THINKING),
        ),
    ),
    Reason(
        "parts joined",
        (("LFM2.5-8B-A1B", "parts"), ("mistralai-Ministral-3*", "parts")),
    ),
    Reason("system folded", (("google-gemma-2-2b-it", "multi-turn developer thinking-o*"),)),
    Reason(
        "generation prompt",
        (
            ("llama-cpp-rwkv-world", "no-generation-prompt"),
            ("upstage-Solar-Open-100B", "no-generation-prompt"),
        ),
    ),
    Reason(
        "thoughts and texts left out",
        (
            ("upstage-Solar-Open-100B", "reasoning-call"),
            ("unsloth-mistral-Devstral*", "reasoning-before"),
            ("google-gemma-4-31B-it-interleaved", "call-with-text"),
        ),
        lost=("I need the weather.", "A group that travels", "Let me look."),
    ),
    Reason("lists written out", (("openbmb-MiniCPM5-1B", "calls"),)),
)


def reason(
    template: str, conversation: str, ours: str | None = None, theirs: str | None = None
) -> Reason | None:
    """Why these two differ; None: nobody knows."""
    fitting = (r for r in REASONS if r.fits(template, conversation))
    return next((r for r in fitting if r.holds(ours, theirs)), None)
