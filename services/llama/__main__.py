"""The command `caravan-llama`, also `python -m services.llama`: one worker for one model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.settings import ConfigError
from services.llama import hub
from services.llama.config import LlamaSettings
from services.llama.runtime import gguf
from services.worker.backend import StartupError
from services.worker.main import command

if TYPE_CHECKING:
    from services.llama.backend import LlamaBackend


def main() -> int:
    """Serves until told to stop; the exit code."""
    made: list[LlamaBackend] = []

    def make(settings: LlamaSettings) -> LlamaBackend:
        made.append(_make_backend(settings))
        return made[-1]

    code = command("caravan-llama", LlamaSettings, make)
    if any(backend.abandoned for backend in made):
        # Python would wait for the thread, for as long as a tokenizer may take.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _make_backend(settings: LlamaSettings) -> LlamaBackend:
    """Raises ConfigError for a file that is wrong: starting again would not mend it."""
    # It brings llama.cpp with it, of which --version, --help and wrong settings need nothing.
    from services.llama.backend import LlamaBackend  # noqa: PLC0415

    for model in (settings.model, settings.draft_model, settings.mmproj):
        if not model or hub.is_hub_name(model):
            continue
        try:
            gguf.read(Path(model))
        except StartupError as error:
            raise ConfigError(str(error)) from None
    return LlamaBackend(settings)


if __name__ == "__main__":
    sys.exit(main())
