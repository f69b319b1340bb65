"""Weights and cells lie in huge pages where the system leaves that to its processes."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.llama.runtime import huge_pages, loading

SIZE = 32 * 2**20


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        taken = mmap.mmap(-1, SIZE, flags)
    except (AttributeError, OSError):
        pytest.skip("not Linux")
    with taken:
        yield taken


@pytest.fixture(autouse=True)
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's, as most distributions have it."""
    file = tmp_path / "enabled"
    file.write_text("always [madvise] never\n")
    monkeypatch.setattr(huge_pages, "_SETTING", file)
    return file


def wished(memory: mmap.mmap) -> bool:
    """Whether the kernel notes the wish for it."""
    pointer = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(pointer)
    del pointer
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head:
            start, end = (int(part, 16) for part in head.split("-"))
            inside = start <= address < end
        elif inside and head == "VmFlags:":
            return "hg" in line.split()
    raise AssertionError("no such memory")


def test_large_memory_is_wished_for(memory: mmap.mmap):
    assert not wished(memory)
    assert loading._progress(0.0, None)
    assert wished(memory)


def test_what_was_written_before_keeps_its_content(memory: mmap.mmap):
    memory.write(bytes(range(256)) * (SIZE // 512))
    huge_pages.collapse()
    assert wished(memory)
    assert memory[: SIZE // 2] == bytes(range(256)) * (SIZE // 512)
    assert not any(memory[SIZE // 2 :: 4096])


@pytest.mark.parametrize("text", ["[always] madvise never", "always madvise [never]"])
def test_what_the_system_decides_is_left_to_it(memory: mmap.mmap, setting: Path, text: str):
    setting.write_text(text)
    huge_pages.wish()
    huge_pages.collapse()
    assert not wished(memory)


def test_a_system_without_them_is_none_with_them(memory: mmap.mmap, setting: Path):
    setting.unlink()
    huge_pages.wish()
    assert not wished(memory)
