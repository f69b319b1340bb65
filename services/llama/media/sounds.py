"""Looks at a sound's file before anything decodes it, and writes it as decoders expect. Pure.

Decoders believe what files say of their length, and where one does not understand a file the next
tries. So lengths are checked, and what goes to them is only what was: a WAV gets a plain header, of
an MP3 the frames are kept that follow each other without a gap.
"""

from __future__ import annotations

import struct

from services.llama.media.problem import MediaError

MOST_SECONDS = 1800
# Of shorter ones some models' statistics do not exist.
_LEAST_SECONDS = 0.1
_MOST_CHUNKS = 4096
_RATES = range(8_000, 192_001)
_MOST_CHANNELS = 8
# WAVE format tags: PCM, float, A-law, mu-law; and the one that says "see below".
_BITS = {1: (8, 16, 24, 32), 3: (32, 64), 6: (8,), 7: (8,)}
_EXTENSIBLE = 0xFFFE

# kbit/s of MPEG 1 and 2, layer III, by index; 0: not said, or not allowed.
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_MP3_RATES = (44_100, 48_000, 32_000)
# What may stand behind the last frame that is none of the known tags.
_RUBBISH = 4096


def checked(data: bytes) -> bytes:
    """The same sound, in a file that says the truth. Raises MediaError."""
    try:
        if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
            return _wav(data)
        if data[:4] == b"fLaC":
            return _flac(data)
        if data[:3] == b"ID3" or _frame(data, 0):
            return _mp3(data)
    except struct.error:
        raise MediaError("the sound is cut off") from None
    raise MediaError("not a sound that is read here: WAV, MP3 or FLAC")


def _check(seconds: float) -> None:
    if seconds > MOST_SECONDS:
        raise MediaError(f"the sound is longer than {MOST_SECONDS // 60} minutes")
    if seconds < _LEAST_SECONDS:
        raise MediaError(f"the sound is shorter than {_LEAST_SECONDS} seconds")


def _wav(data: bytes) -> bytes:
    form, at = None, 12
    for _ in range(_MOST_CHUNKS):
        kind, length = struct.unpack_from("<4sI", data, at)
        at += 8
        if kind == b"fmt ":
            form = _form(data, at, length)
        elif kind == b"data":
            if form is None:
                break
            # Who writes to a pipe does not know the length yet.
            return _plain_wav(form, data[at : at + length])
        at += length + length % 2
    raise MediaError("the WAV is broken: its format or its samples are missing")


def _form(data: bytes, at: int, length: int) -> tuple[int, int, int, int]:
    """Tag, channels, rate, bits of a sample."""
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at)
    if tag == _EXTENSIBLE and length >= 26:
        (tag,) = struct.unpack_from("<H", data, at + 24)
    if bits not in _BITS.get(tag, ()) or not 1 <= channels <= _MOST_CHANNELS or rate not in _RATES:
        raise MediaError(
            "a WAV is read here with 1 to 8 channels of PCM, float, A-law or mu-law samples, 8000 "
            "to 192000 a second"
        )
    return tag, channels, rate, bits


def _plain_wav(form: tuple[int, int, int, int], samples: bytes) -> bytes:
    tag, channels, rate, bits = form
    frame = channels * bits // 8
    samples = samples[: len(samples) // frame * frame]
    _check(len(samples) / frame / rate)
    head = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    return b"".join(
        (
            struct.pack("<4sI4s4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16),
            head,
            struct.pack("<4sI", b"data", len(samples)),
            samples,
        )
    )


def _flac(data: bytes) -> bytes:
    at = 4
    for block in range(_MOST_CHUNKS):
        head, *size = struct.unpack_from(">4B", data, at)
        length = int.from_bytes(size, "big")
        if block == 0:
            if head & 0x7F or length != 34:
                break
            (packed,) = struct.unpack_from(">Q", data, at + 14)
            rate, total = packed >> 44, packed & (2**36 - 1)
            if rate not in _RATES or not total:
                raise MediaError("a FLAC is read here that says its length, at 8 to 192 kHz")
            _check(total / rate)
        at += 4 + length
        if head & 0x80:
            (sync,) = struct.unpack_from(">H", data, at)
            if sync & 0xFFFE == 0xFFF8:
                return data
            break
    raise MediaError("the FLAC is broken")


def _frame(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Length in bytes, samples and rate of a frame of layer III; None: there is none."""
    if len(data) - at < 4:
        return None
    sync, flags, _ = struct.unpack_from(">HBB", data, at)
    version, layer = sync >> 3 & 3, sync >> 1 & 3
    if sync & 0xFFE0 != 0xFFE0 or version == 1 or layer != 1:
        return None
    index, rate_index, padding = flags >> 4, flags >> 2 & 3, flags >> 1 & 1
    kbits = (_KBITS_1 if version == 3 else _KBITS_2)[index]
    if not kbits or rate_index == 3:
        return None
    rate = _MP3_RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 1152 if version == 3 else 576
    return samples // 8 * kbits * 1000 // rate + padding, samples, rate


def _mp3(data: bytes) -> bytes:
    at = 0
    if data[:3] == b"ID3":
        size = struct.unpack_from(">4B", data, 6)
        if any(byte & 0x80 for byte in size):
            raise MediaError("the MP3 is broken: its tag has no length")
        at = 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
        at += 10 if data[5] & 0x10 else 0
    begin, seconds = at, 0.0
    while (frame := _frame(data, at)) is not None and seconds <= MOST_SECONDS:
        length, samples, rate = frame
        at += length
        seconds += samples / rate
    end = min(at, len(data))
    whole = len(data) - end <= _RUBBISH or data.startswith((b"APETAGEX", b"TAG"), end)
    if not whole and seconds <= MOST_SECONDS:
        raise MediaError(f"the MP3 is broken behind its first {seconds:.1f} seconds")
    _check(seconds)
    return data[begin:end]
