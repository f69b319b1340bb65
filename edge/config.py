"""Settings of the edge: flags, EDGE_… variables, keys of the YAML file."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from common.logs import Format, Level
from common.settings import Names, Settings
from edge import cors
from edge.access.keys import hashed
from edge.naming import naming
from edge.resolve import is_address, parse_target

# Everything, a name, all below a name.
_HOSTS = re.compile(r"\*|(\*\.)?[\w.-]+")


class EdgeSettings(Settings):
    """What an operator may set. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="EDGE_")

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""

    processes: int = Field(default=1, ge=1, le=128)
    """Processes that share the port, each with limits of its own; more use more cores."""

    worker: Names = ()
    """HOST:PORT of a worker, repeatable; a name with several addresses is several workers."""

    resolve_interval: float = Field(default=2.0, gt=0)
    """Time between look-ups of the workers' names."""

    default_model: str = ""
    """Model of requests that name none; auto: the one that is served, if there is one; empty refuses them."""

    model_alias: Names = ()
    """Another name of a model, as NAME=MODEL, repeatable; a * in NAME is any text."""

    model_prefix: str = Field(default="/models", pattern=r"^((/[A-Za-z0-9._~-]+)+)?$")
    """Path below which each model has an address of its own: POST /models/NAME; empty: none has."""

    # Hashes, whatever was given: nothing here can be shown by accident.
    api_key: Names = Field(default=(), repr=False)
    """Key that callers must have, or its sha256:HASH; repeatable. None: everyone is let in."""

    api_keys_file: Path | None = None
    """File with such keys and whose they are; read again when it changes."""

    allow_anonymous: bool = False
    """Whether an address that others can reach may be listened on without keys."""

    open_metrics: bool = False
    """Whether /metrics needs no key where everything else does."""

    cors_origin: Names = ()
    """Web page's origin that may call from a browser, as https://app.example; repeatable; *: any."""

    strict: bool = False
    """Whether unknown keys of a request body and of its objects are refused."""

    max_requests: int = Field(default=1024, ge=1)
    """Requests being served at once; more are refused with 503."""

    max_body_bytes: int = Field(default=2**20, ge=1024)
    """Largest request body, decompressed, images and sounds not counted."""

    max_media_bytes: int = Field(default=16 * 2**20, ge=0, le=40 * 2**20)
    """What images and sounds of a body may take beside that, in base64, while a model takes them."""

    media_hosts: Names = ()
    """Host that images are fetched from, repeatable; *.NAME: those below it, *: any; none: nothing is."""

    # Times without an end, or beyond any clock, are over at once for gRPC.
    request_timeout: float = Field(default=600.0, gt=0, le=365 * 86400)
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

    store_max_response_bytes: int = Field(default=32 * 2**20, ge=2**16)
    """Size of one stored response; larger ones are answered and not stored."""

    drain_grace: float = Field(default=20.0, ge=0)
    """Time that live requests get to finish after SIGTERM or SIGINT."""

    log_level: Level = "info"
    """Least level of log lines."""

    log_format: Format = "auto"
    """json, text, or text on a terminal only."""

    @property
    def keys(self) -> bool:
        """Whether callers need one."""
        return bool(self.api_key) or self.api_keys_file is not None

    @field_validator("api_key")
    @classmethod
    def _hashes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(hashed(key) for key in value)

    @field_validator("cors_origin")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(origin.lower().removesuffix("/") for origin in value)
        for origin in origins:
            if origin != cors.ANY and not cors.ORIGIN.fullmatch(origin):
                raise ValueError(f"'{origin}' is no origin, such as https://app.example, nor *")
        return origins

    @field_validator("media_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not (_HOSTS.fullmatch(host) or is_address(host)):
                raise ValueError(f"'{host}' is no host, such as images.example, *.example or *")
        return value

    @model_validator(mode="after")
    def _open_knowingly(self) -> Self:
        if not (self.keys or self.allow_anonymous or is_loopback(self.host)):
            raise ValueError(
                f"others can reach {self.host or 'every address'}, and no keys are set: give "
                "--api-key or --api-keys-file (EDGE_API_KEY, EDGE_API_KEYS_FILE), or say "
                "--allow-anonymous (EDGE_ALLOW_ANONYMOUS=true)"
            )
        return self

    @field_validator("model_alias")
    @classmethod
    def _aliases(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        naming(value)
        return value

    @field_validator("worker")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for target in value:
            parse_target(target)
        return value


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there; a name other than localhost: no."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
