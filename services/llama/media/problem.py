"""What is wrong with an image or a sound that somebody sent."""

from __future__ import annotations


class MediaError(Exception):
    """It is broken, too large or of a kind that is not read; the message may go to the caller."""
