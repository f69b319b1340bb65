"""Settings of the edge: flags, EDGE_… variables, keys of the YAML file."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from common.logs import Format, Level
from common.settings import Names, Settings
from edge.resolve import parse_target


class EdgeSettings(Settings):
    """What an operator may set. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="EDGE_")

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""

    worker: Names = ()
    """HOST:PORT of a worker, repeatable; a name with several addresses is several workers."""

    resolve_interval: float = Field(default=2.0, gt=0)
    """Time between look-ups of the workers' names."""

    default_model: str = ""
    """Model of requests that name none; empty refuses them."""

    strict: bool = False
    """Whether unknown keys of a request body are refused."""

    max_requests: int = Field(default=1024, ge=1)
    """Requests being served at once; more are refused with 503."""

    max_body_bytes: int = Field(default=2**20, ge=1024)
    """Largest request body, decompressed."""

    request_timeout: float = Field(default=600.0, gt=0)
    """Longest a request may take in all."""

    admission_timeout: float = Field(default=30.0, gt=0)
    """Longest wait for a worker to admit a request before another one is tried."""

    first_token_timeout: float = Field(default=300.0, gt=0)
    """Longest wait, queueing and prefill included, from admission to the first token."""

    stall_timeout: float = Field(default=60.0, gt=0)
    """Longest silence of a worker between tokens."""

    max_resumes: int = Field(default=5, ge=0)
    """How often an answer may go on at another worker after its own was lost; 0: never."""

    write_timeout: float = Field(default=30.0, gt=0)
    """Longest wait for a client that does not read."""

    header_timeout: float = Field(default=10.0, gt=0)
    """Longest time for a new connection to send the head of its first request."""

    body_timeout: float = Field(default=30.0, gt=0)
    """Longest time for a request's body to arrive."""

    keepalive_timeout: float = Field(default=75.0, gt=0)
    """Longest a connection may idle between requests."""

    heartbeat_interval: float = Field(default=10.0, gt=0)
    """Silence of a stream after which a comment is sent to keep it open."""

    store_url: str = Field(default="", repr=False)
    """Where responses are stored: a SQLite file, or a database's URL; empty: a temporary file."""

    store_ttl: float = Field(default=30 * 86400.0, gt=0)
    """Time that responses are kept after they, or one that goes on from them, were made."""

    store_max_bytes: int = Field(default=2**30, ge=2**20)
    """Size of all stored responses; then the oldest go."""

    store_max_response_bytes: int = Field(default=8 * 2**20, ge=2**16)
    """Size of one stored response; larger ones are answered and not stored."""

    drain_grace: float = Field(default=20.0, ge=0)
    """Time that live requests get to finish after SIGTERM or SIGINT."""

    log_level: Level = "info"
    """Least level of log lines."""

    log_format: Format = "auto"
    """json, text, or text on a terminal only."""

    @field_validator("worker")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for target in value:
            parse_target(target)
        return value
