"""Where a path leads: every address that clients of other servers know is one of the routes. Pure.

A path is rewritten before it is routed, so each route is registered once, what is logged and
counted is the route, and the canonical addresses cost one look into a set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

CHAT: Final = "/v1/chat/completions"
_BASE: Final = "/v1"
# OpenAI's own, OpenVINO's, those of the Azure event proxy, of Azure, of apps, and none.
_PREFIX: Final = re.compile(r"(/v3/v1|/v3|/v1/api|/v1|/api/v1|/api)?(/openai/v1|/openai)?(?=/)")
# What comes before the name of a model in Azure's paths and OpenAI's old ones.
_OF_MODEL: Final = frozenset({"deployments", "engines"})
_SLASHES: Final = re.compile("/{2,}")


class PrefixError(ValueError):
    """Models cannot have their addresses below this path; the message says why."""


@dataclass(frozen=True, slots=True)
class Address:
    """What is asked for: a route's path, as it stands in a URL, and the model that the path names.

    `post`: the request is a POST, whatever it says.
    """

    path: str
    model: str = ""
    post: bool = False


class Aliases:
    """Rewrites paths for a set of routes, given as methods and paths, those of APIs below /v1."""

    def __init__(self, routes: Iterable[tuple[str, str]], model_prefix: str = "") -> None:
        """Models have addresses below `model_prefix`, if it is not empty. Raises PrefixError."""
        routes = [*routes, ("POST", CHAT)]
        self._known = frozenset(path for _, path in routes)
        self._heads = frozenset(
            path.split("/")[2] for path in self._known if path.startswith(_BASE + "/")
        )
        posts = {
            path.removeprefix(_BASE)
            for method, path in routes
            if method == "POST" and path.startswith(_BASE + "/") and "{" not in path
        }
        # The longest first: chat/completions ends like completions.
        self._posts = sorted(posts, key=len, reverse=True)
        self._models = f"{model_prefix}/" if model_prefix else ""
        if model_prefix:
            other = _PREFIX.match(self._models)
            if (other and other.end() == len(model_prefix)) or any(
                path.startswith(self._models) for path in self._known
            ):
                raise PrefixError(f"{model_prefix} is where other things are")

    def find(self, method: str, path: str, *, has_body: bool = False) -> Address | None:
        """Where a path leads, given as it stands in the URL; None: where it says."""
        if path in self._known or not path.startswith("/"):
            return None
        plain = _SLASHES.sub("/", path).rstrip("/") or "/"
        found = None
        if plain not in self._known:
            found = self._of_model(method, plain, has_body) or self._below_prefix(plain)
        found = found or Address(plain)
        return None if found == Address(path) else found

    def _of_model(self, method: str, path: str, has_body: bool) -> Address | None:
        """A model's own address: a chat may be posted to it, and it says what it is."""
        if not self._models or not path.startswith(self._models):
            return None
        rest = path.removeprefix(self._models)
        # Some clients send their body with a GET.
        if method != "POST" and not (method == "GET" and has_body):
            return Address(f"{_BASE}/models/{rest}")
        found = self._deployed(rest)
        return Address(found.path if found else CHAT, found.model if found else unquote(rest), True)

    def _below_prefix(self, path: str) -> Address | None:
        prefix = _PREFIX.match(path)
        rest = path[prefix.end() :] if prefix else path
        head = rest.split("/", 2)[1]
        if head in _OF_MODEL:
            return self._deployed(rest.removeprefix(f"/{head}/"))
        return Address(_BASE + rest) if head in self._heads else None

    def _deployed(self, rest: str) -> Address | None:
        """A model's name, which may have slashes, and what it is asked for."""
        for post in self._posts:
            model = rest.removesuffix(post)
            if model and model != rest:
                return Address(_BASE + post, unquote(model))
        return None
