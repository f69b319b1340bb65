"""Images that a request names by an address: fetched, from hosts that the operator allows and no others.

Rules, because the address is a caller's and the request is this server's:
  * Only http and https, on their own ports, without a user; no redirects to another host.
  * Where a host is allowed by a pattern, its addresses must be public ones: nobody reaches what is
    inside by a name that points there. The address that was looked at is the one that is asked.
  * Size and time are limited, and nothing of a proxy or of cookies is this server's.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from edge.errors import ApiError
from edge.resolve import is_address
from edge.together import together

# Of one request.
MOST_IMAGES: Final = 16
# Bytes of one image, and of all of a request.
MOST_BYTES: Final = 16 * 2**20
MOST_BYTES_TOGETHER: Final = 32 * 2**20
_SECONDS: Final = 15.0
_REDIRECTS: Final = 3
_AT_ONCE: Final = 4
_ANY: Final = "*"
_HTTP: Final = re.compile(r"https?://", re.IGNORECASE)
_PORTS: Final = {"http": 80, "https": 443}


class Hosts:
    """The hosts that images are fetched from."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """Names; `*.example.com` is all below, `*` every one."""
        self._exact = frozenset(name.lower() for name in allowed if _ANY not in name)
        self._below = tuple(name.lower()[1:] for name in allowed if name.startswith("*."))
        self._all = _ANY in allowed

    def __bool__(self) -> bool:
        return bool(self._exact or self._below or self._all)

    def named(self, host: str) -> bool:
        """Whether it is allowed by its own name: then its addresses may be private."""
        return host.lower() in self._exact

    def allowed(self, host: str) -> bool:
        """Whether images are fetched from there."""
        return self.named(host) or self._all or host.lower().endswith(self._below)


@dataclass(frozen=True, slots=True)
class Image:
    """An image at an http address: by which name errors call its place, and how it is put there."""

    param: str
    url: str
    # Given the image as a `data:` URL.
    put: Callable[[str], None]


# An API's error, by the parameter that is wrong and why, which begins in lower case.
Wrong = Callable[[str, str], ApiError]


def is_http(url: str) -> bool:
    """Whether it is an address that may be fetched from, as far as its scheme says."""
    return _HTTP.match(url) is not None


async def put_in(images: Iterable[Image], hosts: Hosts, wrong: Wrong) -> None:
    """Fetches images and puts each into its place; none where no host is allowed.

    Raises ApiError 400, which does not tell the address: it may have a secret in it.
    """
    wanted = list(images) if hosts else []
    if not wanted:
        return
    if len(wanted) > MOST_IMAGES:
        raise wrong("messages", f"more than {MOST_IMAGES} images to be fetched")
    left = asyncio.Semaphore(_AT_ONCE)
    async with _session(hosts) as session:

        async def fetch(one: Image) -> tuple[str, bytes]:
            async with left:
                try:
                    return await _fetch(session, hosts, one.url)
                except _RefusedError as refused:
                    raise wrong(one.param, str(refused)) from None

        found = await together(map(fetch, wanted))
    if sum(len(data) for _, data in found) > MOST_BYTES_TOGETHER:
        most = MOST_BYTES_TOGETHER // 2**20
        raise wrong("messages", f"images of more than {most} MiB together")
    for one, (mime, data) in zip(wanted, found, strict=True):
        one.put(f"data:{mime};base64,{base64.b64encode(data).decode()}")


class _RefusedError(Exception):
    """The image is not had; the message says why, in a caller's terms."""


def _session(hosts: Hosts) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=_Resolver(hosts), use_dns_cache=False),
        timeout=aiohttp.ClientTimeout(total=_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "caravan"},
    )


async def _fetch(session: aiohttp.ClientSession, hosts: Hosts, address: str) -> tuple[str, bytes]:
    """Type and bytes. Raises _RefusedError."""
    try:
        url = URL(address)
        first = url.host
        for _ in range(_REDIRECTS + 1):
            _check(url, hosts)
            async with session.get(url, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if response.status in (301, 302, 303, 307, 308) and location:
                    url = url.join(URL(location))
                    if url.host != first:
                        raise _refused("it redirects to another host")
                    continue
                if response.status != 200:
                    raise _refused(f"the status is {response.status}")
                if not response.content_type.startswith("image/"):
                    raise _refused(f"it is {response.content_type}, no image")
                return response.content_type, await _read(response)
    except TimeoutError:
        raise _refused("it takes too long") from None
    except (aiohttp.ClientError, OSError, ValueError):
        raise _refused("it cannot be had") from None
    raise _refused("it redirects too often")


def _check(url: URL, hosts: Hosts) -> None:
    host = url.host or ""
    if url.scheme not in _PORTS or not hosts.allowed(host):
        raise _RefusedError(
            "this server does not fetch images from there; send a base64-encoded data URL"
        )
    # A host that is named is trusted, with whatever ports it has.
    if not hosts.named(host) and url.port != _PORTS[url.scheme]:
        raise _refused("it is at an unusual port")
    if url.user or url.password:
        raise _refused("it names a user")
    if not hosts.named(host) and is_address(host) and not _is_public(host):
        raise _refused("it is no public address")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_chunked(2**16):
        data += piece
        if len(data) > MOST_BYTES:
            raise _refused(f"it is larger than {MOST_BYTES // 2**20} MiB")
    return bytes(data)


def _refused(why: str) -> _RefusedError:
    return _RefusedError(f"the image was not fetched: {why}")


class _Resolver(AbstractResolver):
    """Asks the system; of hosts that are allowed by a pattern only public addresses are told."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError where none is left."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, family=family
        )
        told: list[ResolveResult] = []
        for kind, _, protocol, _, address in found:
            if self._hosts.named(host) or _is_public(str(address[0])):
                told.append(
                    ResolveResult(
                        hostname=host,
                        host=str(address[0]),
                        port=port,
                        family=kind,
                        proto=protocol,
                        flags=socket.AI_NUMERICHOST,
                    )
                )
        if not told:
            raise OSError(f"{host} has no public address")
        return told

    async def close(self) -> None:
        """Nothing is kept."""


def _is_public(host: str) -> bool:
    address: Any = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    address = mapped or address
    return address.is_global and not address.is_multicast
