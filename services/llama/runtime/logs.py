"""Turns llama.cpp's own log lines into ours, and remembers the last errors of a load."""

from __future__ import annotations

from collections import deque

import structlog

_WARN, _ERROR, _CONTINUED = 3, 4, 5

# Warnings that are none here: the cache is shared, so it may be larger than one sequence may be;
# and an embedding context pools outside of llama.cpp.
_HARMLESS = ("possible training context overflow", "but [0] was specified")

# Followed by its size.
_REPACKED = "CPU_REPACK model buffer"

_log = structlog.get_logger("llama.cpp")


class LogCapture:
    """The callback that llama.cpp calls, from any of its threads. It must not raise."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=16)
        # Whether weights were put into another order for the CPU, which is only said here.
        self.repacked = False
        self._partial = ""
        self._level = 0

    def __call__(self, level: int, text: bytes | None, user_data: object) -> None:
        """Collects pieces until a line is whole."""
        del user_data
        if level != _CONTINUED:
            self._level = level
        self._partial += (text or b"").decode("utf-8", "replace")
        *lines, self._partial = self._partial.split("\n")
        for line in filter(None, map(str.strip, lines)):
            self._write(line)

    def last_error(self) -> str:
        """The most telling error since the last call, without the name of the C++ function."""
        errors = [line.split(": ", 1)[-1] for line in self.errors]
        self.errors.clear()
        return errors[0] if errors else ""

    def _write(self, line: str) -> None:
        self.repacked = self.repacked or _REPACKED in line
        if self._level == _ERROR:
            self.errors.append(line)
            _log.error("llama.cpp", line=line)
        elif self._level == _WARN and not line.endswith(_HARMLESS):
            _log.warning("llama.cpp", line=line)
        else:
            _log.debug("llama.cpp", line=line)
