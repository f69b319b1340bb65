"""Brings the images and sounds of a chat into its prompt: checked, laid out, later encoded.

Two steps, because a caller must hear at once what is wrong with a file, and encoding takes seconds.
`placed` says what a file will take, in a prompt thread. `encoded` computes the vectors, in a thread
of its own, one file at a time: the engine goes on with others meanwhile, and gets the job after it.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import Collector

from protos.inference.v1 import inference_pb2 as pb
from services.llama.interface import Vectors
from services.llama.job import Job
from services.llama.media import images, sounds
from services.llama.media.cache import Encoded, EncodedCache
from services.llama.media.layout import PLAIN, Layout, Run, Shape, stand_ins
from services.llama.media.problem import MediaError
from services.llama.prompt import Prompt
from services.worker.errors import EngineFailed, InvalidField

# Of one request.
MOST_MEDIA = 64
# Bytes of one file, as it came.
MOST_BYTES = 24 * 2**20

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

Work = Callable[[], list[Encoded]]


class Encoder(Protocol):
    """What the projector does; see services.llama.runtime.projector."""

    def read(self, data: bytes) -> Sequence[list[int] | Shape]:
        """What a checked file will be. Raises MediaError."""

    def encode(self, data: bytes) -> list[Vectors]:
        """The vectors of each Shape. Raises MediaError."""


class MediaMetrics:
    """What is shown to Prometheus."""

    def __init__(self) -> None:
        self.encode_seconds = Histogram(
            "caravan_llama_media_encode_seconds",
            "Time to encode one image or sound.",
            buckets=_BUCKETS,
            registry=None,
        )
        self.hits = Counter(
            "caravan_llama_media_cache_hits",
            "Images and sounds that had been encoded before.",
            registry=None,
        )
        self.cached_bytes = Gauge(
            "caravan_llama_media_cache_bytes",
            "Host memory that holds encoded images and sounds.",
            registry=None,
        )

    @property
    def collectors(self) -> Sequence[Collector]:
        """All of them, to be registered."""
        return tuple(vars(self).values())


class MediaReader:
    """For one loaded projector."""

    def __init__(
        self,
        encoder: Encoder | None,
        *,
        limit: int,
        holders: int,
        run: Callable[[Work], Awaitable[list[Encoded]]],
        metrics: MediaMetrics,
    ) -> None:
        """Without an encoder there are only chats without images and sounds.

        `limit`: bytes that are cached. `holders`: requests that hold vectors at once.

        `run` does work in the thread that is for this alone.
        """
        self._encoder = encoder
        self._cache = EncodedCache(limit)
        # Vectors are megabytes: those of a whole queue would not fit.
        self._holders = asyncio.Semaphore(holders)
        self._run = run
        self._metrics = metrics
        # Requests whose images or sounds are being encoded, or wait for it.
        self.waiting = 0

    def placed(self, prompt: Prompt, request: pb.GenerateRequest) -> tuple[Prompt, Layout]:
        """The prompt with stand-ins at its places. Raises InvalidField."""
        if not prompt.places:
            return prompt, PLAIN
        if request.output.prompt_logprobs:
            raise InvalidField("output.prompt_logprobs", "images and sounds have no logprobs")
        found = [self._read(field, media) for field, media in contents(request.chat)]
        tokens: list[int] = []
        runs: list[Run] = []
        begin = 0
        for at, number in prompt.places:
            tokens += prompt.tokens[begin:at]
            begin = at
            digest, parts = found[number]
            piece = 0
            for part in parts:
                if not isinstance(part, Shape):
                    tokens += part
                    continue
                runs.append(Run(len(tokens), part, (digest, piece)))
                tokens += stand_ins(digest, piece, part.cells)
                piece += 1
        tokens += prompt.tokens[begin:]
        if tokens[-1] < 0:
            raise InvalidField("chat.messages", "the chat template ends with an image or a sound")
        return replace(prompt, tokens=tokens), Layout(runs)

    @asynccontextmanager
    async def encoded(self, job: Job, chat: pb.ChatInput) -> AsyncIterator[Job]:
        """Encloses the life of a job that `placed` has laid out; it gets its vectors.

        Raises EngineFailed.
        """
        if not job.layout:
            yield job
            return
        self.waiting += 1
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._holders)
                by_digest = await self._encode(job.layout, chat)
            finally:
                self.waiting -= 1
            vectors = [by_digest[run.content[0]].vectors[run.content[1]] for run in job.layout.runs]
            yield replace(job, layout=job.layout.with_vectors(vectors))

    async def _encode(self, layout: Layout, chat: pb.ChatInput) -> dict[bytes, Encoded]:
        digests = list(dict.fromkeys(run.content[0] for run in layout.runs))
        there = [self._cache.get(digest) for digest in digests]
        found = [encoded for encoded in there if encoded is not None]
        if len(found) < len(digests):
            gone = threading.Event()
            try:
                found = await self._run(lambda: self._in_turn(digests, chat, gone))
            except MediaError as error:
                # It was read before: this is not the caller's fault.
                raise EngineFailed from error
            finally:
                gone.set()
        else:
            self._metrics.hits.inc(len(digests))
        self._metrics.cached_bytes.set(self._cache.used)
        return dict(zip(digests, found, strict=True))

    def _in_turn(
        self, digests: Sequence[bytes], chat: pb.ChatInput, gone: threading.Event
    ) -> list[Encoded]:
        """In the thread; stops between two files when nobody waits any more."""
        data = {_digest(media.data): media for _, media in contents(chat)}
        found = []
        for digest in digests:
            if gone.is_set():
                raise MediaError("nobody waits for it any more")
            encoded = self._cache.get(digest)
            if encoded is None:
                began = time.monotonic()
                encoded = self._compute(data[digest])
                self._metrics.encode_seconds.observe(time.monotonic() - began)
                self._cache.put(digest, encoded)
            else:
                self._metrics.hits.inc()
            found.append(encoded)
        return found

    def _compute(self, media: pb.Media) -> Encoded:
        assert self._encoder is not None, "the chassis lets only through what the model can"
        data = _checked(media)
        return Encoded(self._encoder.read(data), self._encoder.encode(data))

    def _read(self, field: str, media: pb.Media) -> tuple[bytes, Sequence[list[int] | Shape]]:
        if len(media.data) > MOST_BYTES:
            raise InvalidField(field, f"the file is larger than {MOST_BYTES // 2**20} MiB")
        digest = _digest(media.data)
        known = self._cache.get(digest)
        if known is not None:
            return digest, known.parts
        try:
            assert self._encoder is not None, "the chassis lets only through what the model can"
            return digest, self._encoder.read(_checked(media))
        except MediaError as error:
            raise InvalidField(field, str(error)) from None


def contents(chat: pb.ChatInput) -> Iterator[tuple[str, pb.Media]]:
    """The chat's images and sounds, in order, each with its path. Raises InvalidField: too many."""
    count = 0
    for at, message in enumerate(chat.messages):
        for place, part in enumerate(message.content):
            if not part.HasField("media"):
                continue
            field = f"chat.messages[{at}].content[{place}]"
            count += 1
            if count > MOST_MEDIA:
                raise InvalidField(field, f"a request may have {MOST_MEDIA} images and sounds")
            yield field, part.media


def _checked(media: pb.Media) -> bytes:
    """The file as it may be decoded. Raises MediaError."""
    if media.mime_type.startswith("audio/"):
        return sounds.checked(media.data)
    images.check(media.data)
    return media.data


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
