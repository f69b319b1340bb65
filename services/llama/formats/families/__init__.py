"""All families, in the order in which they are looked for: the more particular signs first."""

from __future__ import annotations

from services.llama.formats.description import Format
from services.llama.formats.families import channelled, inside, literal, outside, tagged

GENERIC = inside.GENERIC

FAMILIES: tuple[Format, ...] = (
    channelled.HARMONY,
    channelled.FUNCTIONARY_3_2,
    channelled.SOLAR_OPEN,
    channelled.MUSE_GLIMMER,
    outside.FUNCTIONARY_3_1,
    tagged.DEEPSEEK_V3_2,
    tagged.DEEPSEEK_V4,
    outside.DEEPSEEK_R1,
    outside.DEEPSEEK_V3_1,
    tagged.KIMI_K3,
    outside.KIMI_K2,
    tagged.HUNYUAN,
    tagged.GLM,
    tagged.MINIMAX_M2,
    tagged.MINIMAX_M3,
    tagged.MINICPM_5,
    tagged.SEED_OSS,
    tagged.QWEN3_CODER,
    literal.GEMMA_4,
    literal.FUNCTION_GEMMA,
    literal.LFM2,
    literal.LLAMA_4,
    literal.OLMO_3,
    outside.MISTRAL_IDS,
    outside.MISTRAL_ARGS,
    inside.MISTRAL,
    inside.COMMAND_R7B,
    inside.COMMAND_R,
    inside.GRANITE,
    inside.NEMOTRON,
    inside.APERTUS,
    inside.APRIEL,
    inside.MINIMAX_M1,
    inside.INTERNLM,
    inside.GIGACHAT,
    inside.GIGACHAT_3,
    inside.FIREFUNCTION,
    inside.PHI_4,
    inside.SMOLLM3,
    inside.HERMES,
    inside.LLAMA_3,
    inside.GEMMA,
    GENERIC,
)
