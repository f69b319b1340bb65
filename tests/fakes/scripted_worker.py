"""`python -m tests.fakes.scripted_worker`: a scripted worker in a process of its own.

For tests that kill, stop and freeze workers, and for benchmarks of the edge. It prints its
address as its only line on stdout once it serves.
"""

from __future__ import annotations

import sys

from pydantic import Field

from common.settings import Names
from protos.inference.v1 import inference_pb2 as pb
from services.worker.backend import Backend, SettingError, StartupError
from services.worker.config import WorkerSettings
from services.worker.main import command
from tests.fakes.script import Script, echo
from tests.fakes.scripted import ScriptedBackend, model_info


class ScriptedSettings(WorkerSettings):
    """What the worker answers with."""

    tokens: int = Field(default=16, ge=0)
    """Tokens of each answer; 0: the answer repeats the last message."""

    interval: float = Field(default=0.0, ge=0)
    """Seconds before each token."""

    hang_at: int = -2
    """Token before which it hangs; -1: before it admits the request; -2: never."""

    capabilities: Names = ()
    """Capabilities, without their prefix; none named: all."""

    start_fails: str = ""
    """What the start fails with, to test failing starts."""

    setting_wrong: str = ""
    """The same, where a setting is why."""

    start_hangs: bool = False
    """Whether the start never ends."""

    lost: str = ""
    """Why it is lost as soon as it has started; empty: it is not."""

    model_name: str = "scripted"
    """Name of the model."""

    identity: str = "sha256:" + "0" * 64
    """Identity of the model."""


def make_backend(settings: ScriptedSettings) -> Backend:
    """The backend that the settings describe."""
    script = Script(
        tokens=tuple(f" t{at}" for at in range(settings.tokens)),
        interval=settings.interval,
        hang_at=None if settings.hang_at < -1 else settings.hang_at,
    )
    info = model_info(name=settings.model_name, identity=settings.identity)
    if settings.capabilities:
        info.ClearField("capabilities")
        for name in settings.capabilities:
            info.capabilities.append(pb.Capability.Value(f"CAPABILITY_{name}"))
        if pb.CAPABILITY_EMBED not in info.capabilities:
            info.embedding_dimensions = 0
    backend = ScriptedBackend(script if settings.tokens else echo, info)
    if settings.start_fails:
        backend.start_error = StartupError(settings.start_fails)
    if settings.setting_wrong:
        backend.start_error = SettingError(settings.setting_wrong)
    if settings.start_hangs:
        backend.may_start.clear()
    backend.lost_at_start = settings.lost
    return backend


def _announce(address: str) -> None:
    print(address, flush=True)  # noqa: T201 -- read by the process that started this one


if __name__ == "__main__":
    sys.exit(command("scripted-worker", ScriptedSettings, make_backend, on_ready=_announce))
