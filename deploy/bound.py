"""Commands that do not outlive the process that starts them, even where that is killed outright.

`bound(command)` has this file run first, as a script: it asks the kernel for the signal, then becomes
the command, under the same process id. A `preexec_fn` would do it in a copy of a process whose
other threads are gone, with whatever locks they held. The kernel's parent is a thread, so the
starting one has to stay. Elsewhere than on Linux nothing is bound.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
# What a shell says of a command that it cannot run.
_NOT_RUN = 127


def bound(command: Sequence[str]) -> tuple[str, ...]:
    """The command, to be started by this very process; SIGKILL ends it when that is gone."""
    if sys.platform != "linux":
        return tuple(command)
    return (sys.executable, "-I", "-S", __file__, str(os.getpid()), *command)


def die_with_parent(number: int) -> None:
    """Asks the kernel to signal this process when its parent is gone; nothing on others."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _become(parent: int, command: Sequence[str]) -> str:
    """Never returns where the command runs; else says why not."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        return "who started it is gone"
    # Python ignores these, and what is ignored stays so.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], list(command))  # noqa: S606 -- the caller's own command
    except OSError as error:
        return str(error.strerror)


if __name__ == "__main__":
    print(f"{sys.argv[2]}: {_become(int(sys.argv[1]), sys.argv[2:])}", file=sys.stderr)
    sys.exit(_NOT_RUN)
