"""Looks at an image's header before anything decodes it: what it will take. Pure.

Decoders believe what files say of themselves: 100 bytes can ask for gigabytes. What passes here
costs at most what MOST_PIXELS cost, in memory and about in time.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from services.llama.media.problem import MediaError

# Of one image, before it is made smaller: cameras have 12 to 24 million.
MOST_PIXELS = 36_000_000
# Times that one side is longer than the other: what resizes images rounds short sides to nothing.
_MOST_ASPECT = 200
# Parts of a file: nobody writes so many, and each takes time.
_MOST_SEGMENTS = 4096
# Passes of a progressive JPEG over all of its pixels; encoders write about ten.
_MOST_SCANS = 64
# What a PNG may unpack to without anybody looking: not much, whatever its header says.
_UNPACKED = 64 * 2**20
# Most that a byte of deflate can stand for.
_DEFLATE_RATIO = 1032
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def check(data: bytes) -> None:
    """Raises MediaError for what is no PNG, JPEG, GIF or BMP, is broken, or too large."""
    width, height = _size(data)
    if not width or not height:
        raise MediaError("the image has no pixels")
    if width * height > MOST_PIXELS:
        raise MediaError(
            f"the image has {width} x {height} pixels, more than {MOST_PIXELS // 10**6} million"
        )
    if max(width, height) > _MOST_ASPECT * min(width, height):
        raise MediaError(
            f"the image is {width} x {height}: one side more than {_MOST_ASPECT} times the other"
        )
    if data.startswith(_PNG):
        _check_unpacked(data)


def _size(data: bytes) -> tuple[int, int]:
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith((b"GIF87a", b"GIF89a")):
            return struct.unpack_from("<HH", data, 6)
        if data.startswith(b"BM"):
            return _bmp(data)
    except struct.error:
        raise MediaError("the image is cut off") from None
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        raise MediaError("WebP is not read here; send PNG, JPEG, GIF or BMP")
    raise MediaError("not an image that is read here: PNG, JPEG, GIF or BMP")


def _png(data: bytes) -> tuple[int, int]:
    length, kind, width, height, _, _ = struct.unpack_from(">I4sIIBB", data, 8)
    if kind != b"IHDR" or length != 13:
        raise MediaError("the PNG is broken: its header is missing")
    return width, height


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, at = memoryview(data), len(_PNG)
    for _ in range(len(data) // 12):
        length, kind = struct.unpack_from(">I4s", data, at)
        if length > len(data) - at - 12:
            raise MediaError("the PNG is cut off")
        yield kind, view[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"IEND" or at >= len(data):
            return


def _check_unpacked(data: bytes) -> None:
    """That it unpacks to no more than its size asks for."""
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    row = (width * _PNG_CHANNELS.get(colour, 4) * depth + 7) // 8 + 1
    # Interlaced, rows are shorter, and more.
    most = 2 * row * height + 2**16
    try:
        packed = [piece for kind, piece in _chunks(data) if kind == b"IDAT"]
    except struct.error:
        raise MediaError("the PNG is cut off") from None
    if sum(map(len, packed)) * _DEFLATE_RATIO <= max(most, _UNPACKED):
        return
    unpacked, inflate = 0, zlib.decompressobj()
    try:
        for piece in packed:
            left: bytes | memoryview = piece
            while left and not inflate.eof:
                unpacked += len(inflate.decompress(left, 2**20))
                left = inflate.unconsumed_tail
                if unpacked > most:
                    raise MediaError("the PNG unpacks to more than its size")
    except zlib.error:
        raise MediaError("the PNG is broken") from None


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        fill, marker = struct.unpack_from(">BB", data, at)
        if fill != 0xFF:
            break
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0xD9, 0xDA):
            break
        at += 2
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if data.count(b"\xff\xda") > _MOST_SCANS:
                raise MediaError(f"the JPEG has more than {_MOST_SCANS} scans")
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        at += max(2, length)
    raise MediaError("the JPEG is broken: it says no size")


def _bmp(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:
        return struct.unpack_from("<HH", data, 18)
    width, height = struct.unpack_from("<ii", data, 18)
    # Below 0: it begins at the top.
    return abs(width), abs(height)
