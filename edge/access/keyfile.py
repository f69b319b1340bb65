"""The keys that an edge accepts: those of its settings, and those of a file while that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import structlog

from common.settings import ConfigError
from edge.access.identity import Access, Open
from edge.access.keyed import Keyed
from edge.access.keys import Key, KeyRing, KeysError, parse, read
from edge.config import EdgeSettings

log = structlog.get_logger()

# Seconds between looks at the file.
INTERVAL = 2.0

# What says that a file is another one: time of its change in ns, size, inode.
_Mark = tuple[int, int, int]
_UNREADABLE = (OSError, UnicodeDecodeError, KeysError)


class KeyFile:
    """Follows the file. A state that cannot be read changes nothing: keys stay as they were."""

    def __init__(self, path: Path, fixed: Iterable[Key] = ()) -> None:
        """Reads it once; `fixed` are accepted besides. Raises ConfigError."""
        self._path = path
        self._fixed = tuple(fixed)
        # Of what is wrong with it: said once, not at every look.
        self._said = ""
        try:
            self._mark = self._look()
            self.access = Keyed(self._ring())
        except _UNREADABLE as error:
            raise ConfigError(f"--api-keys-file {path}: {_reason(error)}") from None
        if not len(self.access.ring):
            raise ConfigError(f"--api-keys-file {path}: there is no key in it")

    async def follow(self, interval: float = INTERVAL) -> None:
        """Reads it again whenever it changes; never ends."""
        while True:
            await asyncio.sleep(interval)
            await self.look_again()

    async def look_again(self, *, anyway: bool = False) -> None:
        """Reads the file if it has changed, or `anyway`."""
        try:
            mark = await asyncio.to_thread(self._look)
            if mark == self._mark and not anyway:
                return
            ring = await asyncio.to_thread(self._ring)
        except _UNREADABLE as error:
            reason = _reason(error)
            if anyway or reason != self._said:
                # No trace: it has lines of the file.
                log.warning("keys stay as they were", file=str(self._path), error=reason)
            self._said = reason
            return
        self._mark, self._said = mark, ""
        self.access.ring = ring
        log.info("keys read", file=str(self._path), keys=len(ring))

    def _look(self) -> _Mark:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _ring(self) -> KeyRing:
        as_yaml = self._path.suffix.lower() in {".yaml", ".yml"}
        return KeyRing((*self._fixed, *parse(self._path.read_text("utf-8"), as_yaml=as_yaml)))


def _reason(error: Exception) -> str:
    """One line without anything of the file's content."""
    if isinstance(error, OSError):
        return (error.strerror or "cannot be read").lower()
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def access(settings: EdgeSettings) -> tuple[Access, KeyFile | None]:
    """Who is let in by these settings, and the file to follow. Raises ConfigError."""
    fixed = [read(key) for key in settings.api_key]
    if settings.api_keys_file is not None:
        file = KeyFile(settings.api_keys_file, fixed)
        return file.access, file
    return (Keyed(KeyRing(fixed)) if fixed else Open()), None
