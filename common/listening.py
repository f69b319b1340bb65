"""Addresses of servers: how they are written, and whether one can listen there."""

from __future__ import annotations

import errno
import socket


def joined(host: str, port: int) -> str:
    """`HOST:PORT`; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def probe(host: str, port: int) -> None:
    """Raises OSError where nothing can listen now; no host is every address of this machine."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except UnicodeError:  # of what is never looked up, such as `a..b`
        raise socket.gaierror(socket.EAI_NONAME, "Not a host name") from None
    for family, kind, protocol, _, where in found:
        with socket.socket(family, kind, protocol) as tried:
            # As servers do: what is left of a closed connection is in nobody's way.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(where)


def is_wrong_host(error: OSError) -> bool:
    """Whether it is none of this machine's: a name may be found later, and a port be free."""
    if isinstance(error, socket.gaierror):
        return error.errno != socket.EAI_AGAIN
    return error.errno == errno.EADDRNOTAVAIL
