"""The edge's command, run to its end."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_SECONDS = 30.0


async def run(*args: str) -> tuple[int, list[str]]:
    """The exit code of `python -m edge ARGS`, and the lines of its stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge", *args,
        cwd=_ROOT, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(_SECONDS):
        _, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stderr.decode().splitlines()
