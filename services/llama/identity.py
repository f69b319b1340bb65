"""Which workers are interchangeable: a digest of all that their answers depend on. Pure.

An answer that one worker began goes on at another of the same identity. So whatever setting changes
what is written, or how it is read, belongs here: `runtime.gguf` digests the model's files,
`runtime.adapters` adds LoRA adapters, `plan` positions, `served` the rest. Left out is what only
changes the time that it takes, or the last bits of logits: threads, drafts, types of the cache.
"""

from __future__ import annotations

import hashlib
import json

from services.llama.config import LlamaSettings
from services.llama.runtime.gguf import Header
from services.llama.templates import Templates


def extended(base: str, said: str) -> str:
    """The identity of what is `base`, with this to be said of it; the same where nothing is."""
    return "sha256:" + hashlib.sha256(f"{base} {said}".encode()).hexdigest() if said else base


def served(
    base: str, settings: LlamaSettings, templates: Templates, projector: Header | None
) -> str:
    """Of a model as these settings serve it; `base` covers its own templates and defaults."""
    for said in (
        _template(templates),
        # How calls and thoughts are read.
        settings.tool_format and f"format {settings.tool_format}",
        _sampling(settings),
        projector and f"projector {projector.identity}",
    ):
        base = extended(base, said or "")
    return base


def _template(templates: Templates) -> str:
    if not templates.overridden:
        return ""
    return "template " + hashlib.sha256((templates.default or "").encode()).hexdigest()


def _sampling(settings: LlamaSettings) -> str:
    said = settings.default_sampling()
    return f"sampling {json.dumps(said, sort_keys=True)}" if said else ""
