"""Settings that every kind of worker has; a kind subclasses them and names its own prefix."""

from __future__ import annotations

from pydantic import Field

from common import logs
from common.settings import Settings


class WorkerSettings(Settings):
    """Where a worker listens, how it stops and what it logs."""

    host: str = "127.0.0.1"
    """Address to listen on, for gRPC and metrics."""

    port: int = Field(default=50051, ge=0, le=65535)
    """gRPC port; 0 takes a free one and logs it."""

    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of the Prometheus metrics; 0: none."""

    reflection: bool = True
    """Whether the server describes its services (grpcurl needs it)."""

    drain_delay: float = Field(default=0.5, ge=0, le=600)
    """Seconds between the signal to stop and the first call that is refused."""

    drain_grace: float = Field(default=20.0, ge=0, le=86400)
    """Seconds that running calls get to finish after the signal to stop."""

    max_deadline: float = Field(default=3600.0, ge=0, le=86400)
    """Seconds that a call may take, whatever its own deadline; 0: no limit."""

    log_level: logs.Level = "info"
    """Least severity that is logged."""

    log_format: logs.Format = "auto"
    """`json`, `text`, or `auto`: text on a terminal, else json."""
