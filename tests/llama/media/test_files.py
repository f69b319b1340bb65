"""Headers of images and sounds: what is refused before anything decodes it."""

from __future__ import annotations

import contextlib
import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llama.media import images, sounds
from services.llama.media.problem import MediaError
from tests.llama.media import files

GIF = b"GIF89a" + struct.pack("<HH", 20, 30) + bytes(20)


@pytest.mark.parametrize(
    "data",
    [
        files.png(),
        files.png(1, 1),
        files.png(1, 200),
        files.bmp(3, 5),
        files.jpeg_head(640, 480),
        files.jpeg_head(640, 480, scans=12),
        GIF,
        files.png(4000, 4000),
    ],
)
def test_images_that_may_be_decoded(data):
    images.check(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not an image"),
        (b"<svg>", "not an image"),
        (b"RIFF....WEBPVP8 ", "WebP"),
        (files.png_of(30_000, 30_000, b""), "30000 x 30000 pixels"),
        (files.png_of(2**31, 1, b""), "pixels"),
        (files.png_of(0, 5, b""), "no pixels"),
        (files.png(1, 201), "times the other"),
        (files.png()[:20], "cut off"),
        (files.png()[:50], "cut off"),
        (files.jpeg_head(60_000, 60_000), "pixels"),
        (files.jpeg_head(640, 480, scans=65), "scans"),
        (b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5000, "says no size"),
        (b"\xff\xd8\xff\xda", "says no size"),
        (b"\xff\xd8\xff", "cut off"),
        (b"GIF89a" + struct.pack("<HH", 65_535, 65_535), "pixels"),
        (b"GIF89a", "cut off"),
        (files.bmp(3, 5)[:20], "cut off"),
    ],
)
def test_images_that_are_refused(data, said):
    with pytest.raises(MediaError, match=said):
        images.check(data)


def test_a_small_png_that_unpacks_to_gigabytes():
    """1 x 1 pixel, and 200 MiB in it; nothing of that is kept while it is counted."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()
    assert len(packed) < 2**20
    with pytest.raises(MediaError, match="unpacks to more"):
        images.check(files.png_of(1, 1, packed))


@given(st.sampled_from([files.png(), GIF, files.bmp(4, 4), files.jpeg_head(9, 9)]), st.data())
def test_damaged_images_are_refused_or_small(data, draws):
    damaged = bytearray(data[: draws.draw(st.integers(0, len(data)))])
    for _ in range(draws.draw(st.integers(0, 4))):
        if damaged:
            damaged[draws.draw(st.integers(0, len(damaged) - 1))] = draws.draw(st.integers(0, 255))
    try:
        images.check(bytes(damaged))
    except MediaError:
        return
    width, height = images._size(bytes(damaged))
    assert 0 < width * height <= images.MOST_PIXELS


@pytest.mark.parametrize("check", [images.check, sounds.checked])
def test_files_that_are_cut_anywhere_are_read_or_refused(check):
    whole = [files.png(), GIF, files.bmp(4, 4), files.jpeg_head(9, 9), files.wav(0.5)]
    whole += [files.mp3_frames(4), b"ID3\x03\x00\x00\x00\x00\x01\x00" + files.mp3_frames(4)]
    whole += [files.flac_head(16_000, 16_000)]
    for data in whole:
        for size in range(min(len(data), 400)):
            with contextlib.suppress(MediaError):
                check(data[:size])


def test_a_wav_gets_a_plain_header():
    plain = files.wav(0.5)
    assert sounds.checked(plain) == plain
    listed = b"LIST\x04\x00\x00\x00abcdfact\x04\x00\x00\x00\xff\xff\xff\xff"
    body = plain[12:36] + listed + b"data\xff\xff\xff\xff" + plain[44:]
    endless = b"RIFF\xff\xff\xff\xffWAVE" + body
    assert sounds.checked(endless) == plain


def test_an_mp3_keeps_its_frames_alone():
    frames = files.mp3_frames(20)
    tag = b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128)
    assert sounds.checked(tag + frames + b"TAG" + bytes(125)) == frames
    assert sounds.checked(frames + b"rubbish") == frames


def test_a_flac_that_says_its_length_is_left_as_it_is():
    data = files.flac_head(16_000, 16_000)
    assert sounds.checked(data) == data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a sound"),
        (b"OggS" + bytes(40), "not a sound"),
        (files.wav(0.05), "shorter"),
        (files.wav(0.5)[:30], "cut off"),
        (files.wav(0.5, bits=4), "1 to 8 channels"),
        (files.wav(0.5, tag=2), "1 to 8 channels"),
        (files.wav(0.5, rate=16_000)[:24] + struct.pack("<I", 1) + files.wav()[28:], "1 to 8"),
        (b"RIFF\0\0\0\0WAVEdata\x04\x00\x00\x00abcd", "format"),
        (files.mp3_frames(2), "shorter"),
        (files.mp3_frames(100) + bytes(5000), "broken behind its first 2.6"),
        (b"ID3\x03\x00\x00\xff\xff\xff\xff", "no length"),
        (b"ID3\x03\x00\x00\x00\x00\x01\x00", "shorter"),
        (files.mp3_frames(72_000, kbits_index=1), "longer than 30 minutes"),
        (files.flac_head(16_000, 2**36 - 1), "longer"),
        (files.flac_head(16_000, 0), "says its length"),
        (files.flac_head(1, 100), "says its length"),
        (b"fLaC" + bytes(50), "broken"),
        (b"fLaC", "cut off"),
    ],
)
def test_sounds_that_are_refused(data, said):
    with pytest.raises(MediaError, match=said):
        sounds.checked(data)


@given(
    st.sampled_from([files.wav(), files.mp3_frames(9), files.flac_head(16_000, 9999)]), st.data()
)
def test_damaged_sounds_are_refused_or_checked(data, draws):
    damaged = bytearray(data[: draws.draw(st.integers(0, len(data)))])
    for _ in range(draws.draw(st.integers(0, 4))):
        if damaged:
            at = random.Random(draws.draw(st.integers())).randrange(min(80, len(damaged)))
            damaged[at] = draws.draw(st.integers(0, 255))
    try:
        checked = sounds.checked(bytes(damaged))
    except MediaError:
        return
    assert sounds.checked(checked) == checked
