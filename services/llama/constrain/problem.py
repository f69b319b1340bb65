"""What is wrong with a constraint, before it is known which field of the request it came from."""

from __future__ import annotations


class Problem(Exception):  # noqa: N818 -- it becomes the text of an InvalidField
    """The constraint cannot be used; the text is for the caller, and begins in lower case."""
