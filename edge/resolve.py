"""Worker addresses: `HOST:PORT` taken apart, and names to all of their addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from common.listening import joined

# All addresses of a target as `IP:PORT`; raises OSError where the name has none.
Resolver = Callable[["Target"], Awaitable[frozenset[str]]]


class Target(NamedTuple):
    """Where to look for workers."""

    host: str
    port: int


def parse_target(text: str) -> Target:
    """`HOST:PORT` or `[IPv6]:PORT`. Raises ValueError with a line for the operator."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    valid_port = port.isascii() and port.isdecimal() and 0 < int(port) < 65536
    if not (colon and host and valid_port) or any(c.isspace() or c == "/" for c in host):
        raise ValueError(f"{text!r} is no worker address; expected HOST:PORT")
    try:
        # What a look-up does first; there it would fail with no OSError.
        host.encode("idna")
    except UnicodeError:
        raise ValueError(f"{text!r} is no worker address; expected HOST:PORT") from None
    return Target(host, int(port))


def is_address(host: str) -> bool:
    """Whether it is an IP address, and there is nothing to look up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def resolve(target: Target) -> frozenset[str]:
    """Asks the system. Of a name with both kinds of address only the IPv4 ones are taken.

    Otherwise `localhost`, or a container with both, would be two workers in one process.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        target.host, target.port, type=socket.SOCK_STREAM
    )
    v4, v6 = (
        frozenset(
            joined(str(address[0]), target.port) for kind, *_, address in found if kind == family
        )
        for family in (socket.AF_INET, socket.AF_INET6)
    )
    return v4 or v6
