"""Where a backend's work goes that would hold the event loop up; engines have threads of their own.

State: what the threads have to do. They do it even when nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent import futures
from typing import Any, TypeVar

from services.worker.errors import TemplateFailed

# A rendering ends itself before that (template.MAX_SECONDS); this is for what cannot, and for a
# million tokens that may be resumed.
PROMPT_SECONDS, RESUME_SECONDS = 10.0, 60.0
_PROMPT_THREADS = 2
# How long `stop` waits for what is still done.
_STOP_SECONDS = 5.0

T = TypeVar("T")


class Threads:
    """Two for prompts and loads, one that encodes images and sounds. Used on the event loop."""

    def __init__(self) -> None:
        # Templates and tokenizers take milliseconds and more.
        self._prompts = futures.ThreadPoolExecutor(_PROMPT_THREADS, thread_name_prefix="prompt")
        # Seconds, and beside the engine's own threads.
        self._media = futures.ThreadPoolExecutor(1, thread_name_prefix="media")
        self._at_work: set[futures.Future[Any]] = set()
        # One that waits for a thread is not yet taking its own time.
        self._turns = asyncio.Semaphore(_PROMPT_THREADS)

    @property
    def busy(self) -> bool:
        """Whether something is done, or waits to be."""
        return bool(self._at_work)

    async def prompt(self, work: Callable[[], T], seconds: float | None = None) -> T:
        """What belongs to one prompt. Raises TemplateFailed after so long; None: PROMPT_SECONDS."""
        async with self._turns:
            try:
                limit = PROMPT_SECONDS if seconds is None else seconds
                return await asyncio.wait_for(self.load(work), limit)
            except TimeoutError:
                raise TemplateFailed("making the prompt takes too long") from None

    async def load(self, work: Callable[[], T]) -> T:
        """What takes as long as it takes."""
        return await self._run(self._prompts, work)

    async def encode(self, work: Callable[[], T]) -> T:
        """Images and sounds, one after the other."""
        return await self._run(self._media, work)

    async def stop(self) -> bool:
        """Takes nothing new and waits for what is done; whether all of it has ended in time."""
        for executor in (self._prompts, self._media):
            executor.shutdown(wait=False, cancel_futures=True)
        ended = await asyncio.to_thread(futures.wait, set(self._at_work), _STOP_SECONDS)
        return not ended.not_done

    async def _run(self, executor: futures.Executor, work: Callable[[], T]) -> T:
        future = executor.submit(work)
        self._at_work.add(future)
        future.add_done_callback(self._at_work.discard)
        return await asyncio.wrap_future(future)
