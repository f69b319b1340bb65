"""What every answer says in its head, as OpenAI's do. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from urllib.parse import quote

from common.transport import REQUEST_ID_KEY
from edge.anthropic import errors as anthropic
from edge.context import Context

# Without a version: which one it is helps only those who look for one with a hole.
SERVER: Final = "caravan"
# Of OpenAI's HTTP API; there is no other.
VERSION: Final = "2020-10-01"
# Of names of models, which are the operator's: whatever a header may hold.
_SAFE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


@lru_cache(maxsize=256)
def _quoted(model: str) -> str:
    return quote(model, safe=_SAFE, errors="replace")


def answered(ctx: Context) -> dict[str, str]:
    """The head of an answer that is about to go out."""
    told = {
        "Server": SERVER,
        REQUEST_ID_KEY: ctx.request_id,
        "openai-processing-ms": str(round(ctx.elapsed_ms())),
        "openai-version": VERSION,
    }
    if ctx.shape is anthropic.body:
        told[anthropic.REQUEST_ID_HEADER] = ctx.request_id
    if ctx.model:
        told["openai-model"] = _quoted(ctx.model)
    told.update(ctx.limits)
    return told
