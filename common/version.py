"""The version, also for files that were copied and not installed, as in the images."""

from typing import Final

# That of pyproject.toml.
VERSION: Final = "0.1.0"
