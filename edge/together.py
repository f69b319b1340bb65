"""Several waits of one request at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

Each = TypeVar("Each")


async def together(waits: Iterable[Awaitable[Each]]) -> list[Each]:
    """What all of them give, in their order; the first that fails ends all, and is what is raised."""

    async def wait(one: Awaitable[Each]) -> Each:
        return await one

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait(one)) for one in waits]
    except BaseExceptionGroup as failed:
        # The first is what ended the others.
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
