"""The command `caravan-llama`, also `python -m services.llama`: one worker for one model."""

from __future__ import annotations

import sys

from services.llama.backend import LlamaBackend
from services.llama.config import LlamaSettings
from services.worker.main import command


def main() -> int:
    """Serves until told to stop; the exit code."""
    return command("caravan-llama", LlamaSettings, LlamaBackend)


if __name__ == "__main__":
    sys.exit(main())
