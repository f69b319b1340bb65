"""`python -m edge.access [NAME]`: makes a key, or hashes one that is there."""

from __future__ import annotations

import argparse
import secrets
import sys

from common.version import VERSION
from edge.access.keys import KeysError, hashed, read

# 256 random bits.
_BYTES = 32


def main(argv: list[str] | None = None) -> int:
    """Key to stderr, line of the keys file to stdout: `python -m edge.access alice >> keys`."""
    parser = argparse.ArgumentParser(
        prog="python -m edge.access",
        description="Makes an API key: the key itself on stderr, to be given to its owner and kept "
        "nowhere else; its line for --api-keys-file, with its hash alone, on stdout.",
    )
    parser.add_argument("--version", action="version", version=f"python -m edge.access {VERSION}")
    parser.add_argument("name", metavar="NAME", help="who it is for, as in logs")
    parser.add_argument(
        "--stdin", action="store_true", help="hash the key on standard input instead of making one"
    )
    options = parser.parse_args(argv)
    key = sys.stdin.readline().strip() if options.stdin else f"sk-{secrets.token_urlsafe(_BYTES)}"
    try:
        line = f"{read(key, options.name).name}: {hashed(key)}"
    except KeysError as error:
        parser.error(str(error))
    if not options.stdin:
        print(key, file=sys.stderr)  # noqa: T201 -- what it is for
    print(line)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
