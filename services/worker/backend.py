"""What a kind of worker must provide: the one seam between the chassis and a model.

The chassis has checked what can be checked without the model before it calls: field ranges,
capabilities against `model()`, model identity, draining. It enforces the deadline, maps errors
to statuses, counts and logs. A backend raises `WorkerError`s; anything else is an engine failure.
"""

# ruff: noqa: ARG002 -- the optional methods only say what a kind that has them is given

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from prometheus_client.registry import Collector

from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import Unsupported


class StartupError(Exception):
    """The backend cannot serve; the message is one line for the person who started the worker."""


class SettingError(StartupError):
    """A setting is why: starting again would not mend it."""


@dataclass(frozen=True, slots=True)
class Call:
    """What belongs to a call but is not in its request."""

    request_id: str
    # On the clock of time.monotonic(), seconds. None: no deadline.
    deadline: float | None


class Backend(ABC):
    """One model. All methods run on the event loop and none may block it."""

    @abstractmethod
    async def start(self) -> None:
        """Loads and warms up; the worker is ready when this returns. Raises StartupError."""

    @abstractmethod
    async def stop(self) -> None:
        """Gives everything back, after a failed start too. No call is running any more."""

    @abstractmethod
    def model(self) -> pb.ModelInfo:
        """What is served; constant after `start`.

        The chassis fills `kind` (the name of the backend's package), `version` and `owned_by`
        where they are empty.
        """

    @abstractmethod
    def load(self) -> pb.LoadReport:
        """The load now, cheaply. The chassis fills `draining`, and `incarnation` where it is empty."""

    @abstractmethod
    def generate(
        self, request: pb.GenerateRequest, call: Call
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """Yields started, deltas, finished. Closing the generator cancels the work at once.

        A consumer that stops reading must stop the generation, not fill memory.
        """

    async def lost(self) -> str:
        """Waits until it can never serve again and says why in one line; the worker then ends.

        For failures that no call can report, such as an engine thread that died.
        """
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    def collectors(self) -> Sequence[Collector]:
        """Prometheus collectors of its own; asked once before `start`, read from any thread."""
        return ()

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        """See the contract."""
        raise Unsupported(pb.CAPABILITY_EMBED)

    async def rerank(self, request: pb.RerankRequest, call: Call) -> pb.RerankResponse:
        """See the contract."""
        raise Unsupported(pb.CAPABILITY_RERANK)

    async def tokenize(self, request: pb.TokenizeRequest, call: Call) -> pb.TokenizeResponse:
        """See the contract."""
        raise Unsupported(pb.CAPABILITY_TOKENIZE)

    async def detokenize(self, request: pb.DetokenizeRequest, call: Call) -> pb.DetokenizeResponse:
        """See the contract."""
        raise Unsupported(pb.CAPABILITY_TOKENIZE)

    async def render_prompt(
        self, request: pb.RenderPromptRequest, call: Call
    ) -> pb.RenderPromptResponse:
        """See the contract."""
        raise Unsupported(pb.CAPABILITY_CHAT)
