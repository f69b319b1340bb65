"""Why some renderings differ from llama-server's: patterns of templates and conversations."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause. Where several fit, the first in REASONS counts."""

    name: str
    # What is different, for the page that tells.
    text: str
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
        "The template has no place for tools, or takes them by another name. llama-server drops "
        "them; we give them as above.",
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
        "The template shows no calls. llama-server drops them, so that a result follows nothing; "
        "we write them as the model does.",
        (
            ("LFM2-8B-A1B", _CALLS),
            ("LFM2.5-Instruct", _CALLS),
            ("ibm-granite-granite-3.3*", _CALLS),
        ),
        lost=("Oslo",),
    ),
    Reason(
        "llama-server fails",
        "Llama 3's templates refuse several calls of one message: we make one message of each. "
        "Command R+: llama.cpp's engine does not do what Jinja2 does with a parameter of the type"
        " array.",
        (
            ("CohereForAI-c4ai-command-r-plus*", _TOOLS),
            ("meta-llama-*", "calls"),
        ),
        fails=True,
    ),
    Reason(
        "calls one by one",
        "The template shows only the first of a message's calls, and llama-server gives both "
        "results to it; we make one message of each.",
        tuple((t, "calls") for t in ("GigaChat3*", "openai-gpt-oss-120b")),
    ),
    Reason(
        "thinking unless told",
        "Only in `default`, which does not name the switch: llama-server says that thinking is "
        "on; the template's own default is ours, as the contract has it, and vLLM's and Hugging "
        "Face's.",
        tuple((t, "default") for t in _DEFAULT),
    ),
    Reason(
        "other names of the switch",
        "The template knows `thinking`, `thinking_mode` or `thinking_budget`; llama-server passes"
        " `enable_thinking`, which it does not read.",
        (
            ("ByteDance-Seed-OSS", "*thinking-off continue"),
            ("Kimi-K3", "*thinking-off continue"),
            ("MiniMax-M3", "*thinking-off continue"),
            ("ibm-granite-granite-3.3*", "plain no-gen* parts reasoning-before effort continue*"),
        ),
    ),
    Reason(
        "continued",
        "llama-server puts the generation prompt, its guess of the marks of thoughts, and the "
        "text together: `</think><think></think>` (GLM 4.7, Spark, Laguna), `<think></think>` for"
        " models without it (Kimi K2, LFM2), half a marker (Phi 3.5: it compares letters), no "
        "`<|content|>` (Solar), an empty analysis (gpt-oss). We let the template write the turn, "
        "behind the generation prompt as it stands: `<think>` and its newline (R1's distilled "
        "models, QwQ).",
        (
            *((t, "continue") for t in _CONTINUED),
            *((t, "continue-thinking") for t in _CONTINUED_THINKING),
        ),
    ),
    Reason(
        "parts joined",
        "The template takes parts and puts them together itself, as its makers meant; llama-"
        "server's probe, an empty list, fails, and it joins them with a newline.",
        (("LFM2.5-8B-A1B", "parts"), ("mistralai-Ministral-3*", "parts")),
    ),
    Reason(
        "system folded",
        "We separate instructions from the user's text by a blank line, as Gemma 3's own template "
        "and Mistral's tokenizer do; llama-server by a newline.",
        (("google-gemma-2-2b-it", "multi-turn developer thinking-o*"),),
    ),
    Reason(
        "generation prompt",
        "`add_generation_prompt: false` is `False` here, as in Hugging Face's, and undefined "
        "there, which these templates take for true.",
        (
            ("llama-cpp-rwkv-world", "no-generation-prompt"),
            ("upstage-Solar-Open-100B", "no-generation-prompt"),
        ),
    ),
    Reason(
        "thoughts and texts left out",
        "llama-server does not pass `reasoning` (Solar), takes Devstral for Ministral and loses "
        "the text of its turns, drops what Gemma 4 said before a call.",
        (
            ("upstage-Solar-Open-100B", "reasoning-call"),
            ("unsloth-mistral-Devstral*", "reasoning-before"),
            ("google-gemma-4-31B-it-interleaved", "call-with-text"),
        ),
        lost=("I need the weather.", "A group that travels", "Let me look."),
    ),
    Reason(
        "effort",
        "Kimi K3 knows `thinking_effort`, in words of its own: we give it what was asked for in these.",
        (("Kimi-K3", "effort"),),
    ),
    Reason(
        "lists written out",
        "`{{ value }}` of a list is `['a', 'b']` in Jinja2, `ab` in llama.cpp.",
        (("openbmb-MiniCPM5-1B", "calls"),),
    ),
)


def reason(
    template: str, conversation: str, ours: str | None = None, theirs: str | None = None
) -> Reason | None:
    """Why these two differ; None: nobody knows."""
    fitting = (r for r in REASONS if r.fits(template, conversation))
    return next((r for r in fitting if r.holds(ours, theirs)), None)
