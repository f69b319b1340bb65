"""Keys of callers: read from settings or a file's text, kept as hashes, found in constant time. No I/O.

A key is written plainly or as `sha256:` and 64 hexadecimal digits, which `python -m edge.access`
makes. A file has one a line, with a name before it (`alice: sha256:…`) or without; or it is YAML,
a mapping of names to one key or several, or a list of keys. A name may have several keys, so that
one can be replaced by another without a gap.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

SCHEME: Final = "sha256:"
_HASH: Final = re.compile(rf"{SCHEME}([0-9a-fA-F]{{64}})")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,512}")
# As long as a tenant of the contract may be.
_NAME: Final = re.compile(r"[\x21-\x7e]{1,128}")


class KeysError(ValueError):
    """Keys that cannot be used; the message is one line and holds no key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key's SHA-256, and whose it is."""

    name: str
    digest: bytes


def hashed(key: str) -> str:
    """A key as it stands in settings and files: its hash. Raises KeysError."""
    return SCHEME + read(key).digest.hex()


def read(text: str, name: str = "") -> Key:
    """A key that is written plainly or as its hash; without a name it is named after the hash.

    Raises KeysError.
    """
    found = _HASH.fullmatch(text)
    if found is None and text.startswith(SCHEME):
        raise KeysError("a hash is 'sha256:' and 64 hexadecimal digits")
    if not _KEY.fullmatch(text):
        raise KeysError("a key is 1 to 512 visible ASCII characters")
    digest = bytes.fromhex(found[1]) if found else hashlib.sha256(text.encode()).digest()
    name = name or f"key-{digest.hex()[:8]}"
    if not _NAME.fullmatch(name):
        raise KeysError("a name is 1 to 128 visible ASCII characters")
    return Key(name, digest)


def parse(text: str, *, as_yaml: bool = False) -> tuple[Key, ...]:
    """The keys of a file of lines, or of YAML. Raises KeysError."""
    keys = tuple(_entries(text) if as_yaml else _lines(text))
    if len({key.digest for key in keys}) < len(keys):
        raise KeysError("a key is there twice")
    return keys


def _entries(text: str) -> Iterator[Key]:
    try:
        data, node = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        raise KeysError("not YAML") from None
    if isinstance(node, yaml.MappingNode):
        # Of a name that is there twice the loader keeps the last, and says nothing.
        names = [name.value for name, _ in node.value]
        if len(set(names)) < len(names):
            raise KeysError("a name is there twice; give it a list of keys")
        for at, (name, value) in enumerate(data.items(), 1):
            for item in value if isinstance(value, list) else [value]:
                yield _key(item, name, f"entry {at}")
    elif isinstance(data, list):
        for at, item in enumerate(data, 1):
            yield _key(item, "", f"entry {at}")
    elif data is not None:
        raise KeysError("neither a mapping of names to keys nor a list of keys")


def _lines(text: str) -> Iterator[Key]:
    for at, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name = words.pop(0).removesuffix(":") if len(words) > 1 else ""
        if len(words) > 1:
            raise KeysError(f"line {at}: more than a name and a key")
        yield _key(words[0], name, f"line {at}")


def _key(text: Any, name: Any, where: str) -> Key:
    # Digits alone are a number to YAML.
    if not isinstance(text, str) or not isinstance(name, str):
        raise KeysError(f"{where}: names and keys are text; put what looks like a number in quotes")
    try:
        return read(text, name)
    except KeysError as error:
        raise KeysError(f"{where}: {error}") from None


class KeyRing:
    """Keys by their hash.

    What is looked up is hashed once more, with a secret of this process, so that the time of a
    look-up says nothing about what it is compared with.
    """

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._pepper = secrets.token_bytes(32)
        self._names = {self._index(key.digest): key.name for key in keys}

    def __len__(self) -> int:
        return len(self._names)

    def find(self, presented: str) -> str | None:
        """Whose key it is; None: nobody's."""
        digest = hashlib.sha256(presented.encode(errors="surrogateescape")).digest()
        return self._names.get(self._index(digest))

    def _index(self, digest: bytes) -> bytes:
        return hmac.digest(self._pepper, digest, "sha256")
