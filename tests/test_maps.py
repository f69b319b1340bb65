"""Every module has its place on a page of docs that shows how the parts work together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("package", "pages"),
    [
        ("edge", ["edge"]),
        ("services/worker", ["worker"]),
        ("services/llama", ["worker", "engine", "answers", "templates", "media", "formats"]),
    ],
)
def test_every_module_is_on_a_map(package: str, pages: list[str]):
    text = "\n".join((ROOT / "docs" / f"{page}.md").read_text("utf-8") for page in pages)
    modules = [path for path in (ROOT / package).iterdir() if not path.name.startswith("__")]
    names = [path.name if path.suffix else f"{path.name}/" for path in modules]
    missing = [name for name in sorted(names) if not re.search(rf"(?<!\w){re.escape(name)}", text)]
    assert missing == []
