"""Images and sounds for tests, made here: small, exact, and broken on purpose where asked."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def png(width: int = 40, height: int = 20, colour: tuple[int, int, int] = (255, 0, 0)) -> bytes:
    rows = b"".join(b"\0" + bytes(colour) * width for _ in range(height))
    return png_of(width, height, zlib.compress(rows))


def png_of(width: int, height: int, packed: bytes) -> bytes:
    """A PNG that says that its pixels are in `packed`."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (_chunk(b"IHDR", head), _chunk(b"IDAT", packed), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bmp(width: int, height: int) -> bytes:
    row = b"\x10\x20\x30" * width
    row += bytes(-len(row) % 4)
    size = len(row) * height
    head = struct.pack("<2sIHHI", b"BM", 54 + size, 0, 0, 54)
    return (
        head
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, size, 0, 0, 0, 0)
        + (row * height)
    )


def jpeg_head(width: int, height: int, scans: int = 1) -> bytes:
    """A JPEG as far as its size, and marks of scans."""
    app = b"\xff\xe0" + struct.pack(">H", 16) + bytes(14)
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + app + frame + b"\xff\xda\x00\x0c" * scans


def wav(
    seconds: float = 0.5, rate: int = 16_000, *, tone: float = 440.0, bits: int = 16, tag: int = 1
) -> bytes:
    at = np.arange(int(seconds * rate)) / rate
    samples = (np.sin(2 * np.pi * tone * at) * 8000).astype("<i2").tobytes()
    head = struct.pack("<HHIIHH", tag, 1, rate, rate * bits // 8, bits // 8, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    body += b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def mp3_frames(count: int, kbits_index: int = 9) -> bytes:
    """Silent frames: MPEG 1, layer III, 44,100 Hz, 128 kbit/s with index 9."""
    kbits = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[kbits_index]
    length = 144 * kbits * 1000 // 44_100
    return (b"\xff\xfb" + bytes((kbits_index << 4, 0xC4)) + bytes(length - 4)) * count


def flac_head(rate: int, total: int) -> bytes:
    """A FLAC as far as its first frame."""
    packed = struct.pack(">Q", rate << 44 | 0 << 41 | 15 << 36 | total)
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed + bytes(16)
    return b"fLaC" + b"\x80\x00\x00\x22" + info + b"\xff\xf8" + bytes(64)
