"""Writes small videos in the formats of phones and programs, and damages them as files get damaged.

A number determines the damage: the same number gives the same broken file.
`python -m testing.data.mutations FOLDER` writes the undamaged ones.
"""

import random
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from testing.data.clips import CLOCK, picture, tag_rotation

FRAMES, FPS, SIZE = 24, 25, (160, 64)


@dataclass(frozen=True)
class Seed:
    """How to write an undamaged video of FRAMES pictures at FPS."""

    name: str
    codec: str = "libx264"
    pixels: str = "yuv420p"
    encoder: str = ""
    muxer: str = ""
    sound: bool = False
    turned: bool = False
    uneven: bool = False


SEEDS = (
    Seed("plain.mp4"),
    Seed("front.mp4", muxer="movflags=faststart"),
    Seed("fragments.mp4", muxer="movflags=frag_keyframe+empty_moov", encoder="g=8"),
    Seed("sound.mp4", sound=True),
    Seed("turned.mp4", turned=True),
    Seed("uneven.mp4", uneven=True),
    Seed("b-frames.mov", encoder="bf=3:g=12"),
    Seed("ten-bit.mp4", "libx265", "yuv420p10le", "x265-params=log-level=none"),
    Seed("hevc.mkv", "libx265", encoder="x265-params=log-level=none"),
    Seed("h264.mkv"),
    Seed("h264.ts", encoder="bf=2:g=12"),
    Seed("h264.avi", encoder="bf=2:g=12"),
    Seed("vp9.webm", "libvpx-vp9", encoder="deadline=realtime:cpu-used=8"),
    Seed("vp8.mkv", "libvpx", encoder="deadline=realtime:cpu-used=8"),
    Seed("live.webm", "libvpx", encoder="deadline=realtime:cpu-used=8", muxer="live=1"),
    Seed("av1.mp4", "libsvtav1", encoder="preset=12"),
    Seed("mpeg4.3gp", "mpeg4"),
    Seed("mpeg4.avi", "mpeg4"),
    Seed("mjpeg.avi", "mjpeg", "yuvj420p"),
    Seed("prores.mov", "prores_ks", "yuv422p10le"),
    Seed("mpeg2.mpg", "mpeg2video"),
)


def write(seed: Seed, folder: Path) -> None:
    """Write the seed's undamaged video to a folder."""
    path = folder / seed.name
    with av.open(str(path), "w", options={"fflags": "+bitexact", **_options(seed.muxer)}) as container:
        stream = container.add_stream(seed.codec, rate=FPS, options=_options(seed.encoder))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = SIZE
        stream.pix_fmt = seed.pixels
        # One thread, so that every run writes the same bytes.
        stream.codec_context.thread_count = 1
        if seed.uneven:
            stream.codec_context.time_base = CLOCK
        sound = container.add_stream("aac", rate=8000) if seed.sound else None
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number, *SIZE), format="rgb24")
            tick = CLOCK if seed.uneven else Fraction(1, FPS)
            late = (number % 3) * 0.3 / FPS if seed.uneven else 0.0
            frame.pts, frame.time_base = round((number / FPS + late) / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            quiet = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            quiet.sample_rate, quiet.pts = 8000, 0
            container.mux(sound.encode(quiet))
            container.mux(sound.encode())
    if seed.turned:
        tag_rotation(path)


def mutate(whole: bytes, number: int) -> tuple[str, bytes]:
    """The name of one of WAYS, chosen by the number, and the video damaged in that way."""
    dice = random.Random(number)
    way = dice.choice(list(WAYS))
    return way, WAYS[way](bytearray(whole), dice)


def _options(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(":") if part)


def _truncate(file: bytearray, dice: random.Random) -> bytes:
    return bytes(file[: dice.randrange(1, len(file))])


def _scatter(file: bytearray, dice: random.Random) -> bytes:
    """Change single bytes anywhere."""
    for _ in range(dice.choice((1, 3, 10, 100))):
        file[dice.randrange(len(file))] = dice.randrange(256)
    return bytes(file)


def _header(file: bytearray, dice: random.Random) -> bytes:
    """Change bytes near the beginning, where most containers have their header."""
    for _ in range(dice.choice((1, 2, 5))):
        file[dice.randrange(min(len(file), 400))] = dice.randrange(256)
    return bytes(file)


def _box(file: bytearray, dice: random.Random) -> bytes:
    """Put an extreme number into a table of an MP4, or into a header of another container."""
    there = [at for name in BOXES for at in _places(file, name)]
    start = dice.choice(there) + 4 if there else 0
    at = start + 4 * dice.randrange(12)
    if at + 4 <= len(file):
        file[at : at + 4] = struct.pack(">I", dice.choice(EXTREME))
    return bytes(file)


def _size(file: bytearray, dice: random.Random) -> bytes:
    """Put an extreme number into the length field of a box."""
    there = [at - 4 for name in BOXES for at in _places(file, name)] or [0]
    at = dice.choice(there)
    file[at : at + 4] = struct.pack(">I", dice.choice(EXTREME))
    return bytes(file)


def _dimensions(file: bytearray, dice: random.Random) -> bytes:
    """Make a picture size very large, if the file stores it in plain bytes."""
    plain = [bytes(file).find(pattern) for pattern in (struct.pack(">HH", *SIZE), struct.pack("<II", *SIZE))]
    at = max(plain)
    if at >= 0:
        file[at : at + 4] = struct.pack(">HH", dice.choice((8192, 16384, 65535)), dice.choice((8192, 65535)))
        return bytes(file)
    return _scatter(file, dice)


def _blank(file: bytearray, dice: random.Random) -> bytes:
    """Overwrite a range with zeros, as a failed disk or upload does."""
    at, length = dice.randrange(len(file)), dice.choice((16, 512, 4096))
    file[at : at + length] = bytes(len(file[at : at + length]))
    return bytes(file)


def _zeros(file: bytearray, dice: random.Random) -> bytes:
    """Zeros instead of the end, as of a file whose space was reserved; or a long hole, which holds no packet."""
    at = dice.randrange(1, len(file))
    if dice.randrange(2):
        return bytes(file[:at]) + bytes(len(file) - at)
    return bytes(file[:at]) + bytes(HOLE_BYTES) + bytes(file[at:])


def _move(file: bytearray, dice: random.Random) -> bytes:
    """Insert a copy of a range elsewhere."""
    at, to, length = dice.randrange(len(file)), dice.randrange(len(file)), dice.choice((32, 1024))
    return bytes(file[:to] + file[at : at + length] + file[to:])


def _drop(file: bytearray, dice: random.Random) -> bytes:
    """Remove a range, so that all later data is not where the index says."""
    at, length = dice.randrange(len(file)), dice.choice((1, 32, 1024))
    return bytes(file[:at] + file[at + length :])


def _element(file: bytearray, dice: random.Random) -> bytes:
    """Change an element of a Matroska file: its id, its length or the beginning of its content."""
    there = [at for name in ELEMENTS for at in _places(file, name)]
    if not there:
        return _box(file, dice)
    at = dice.choice(there) + dice.randrange(8)
    if at < len(file):
        file[at] = dice.choice((0x00, 0x01, 0x7F, 0x80, 0xFF, dice.randrange(256)))
    return bytes(file)


def _packet(file: bytearray, dice: random.Random) -> bytes:
    """Change, drop or repeat a packet of an MPEG transport stream."""
    if len(file) % TS_PACKET or file[0] != 0x47:
        return _element(file, dice)
    at = TS_PACKET * dice.randrange(len(file) // TS_PACKET)
    packet = bytes(file[at : at + TS_PACKET])
    match dice.randrange(3):
        case 0:  # its header, or the header of the frame in it
            file[at + dice.randrange(20)] = dice.randrange(256)
        case 1:
            del file[at : at + TS_PACKET]
        case 2:
            file[at:at] = packet
    return bytes(file)


def _places(file: bytearray, name: bytes) -> list[int]:
    places, at = [], bytes(file).find(name)
    while at >= 0:
        places.append(at)
        at = bytes(file).find(name, at + 1)
    return places


BOXES = (
    b"mvhd", b"tkhd", b"mdhd", b"elst", b"stsd", b"avcC", b"hvcC", b"stts", b"ctts", b"stss", b"stsz", b"stsc",
    b"stco", b"moov", b"trak", b"mdat", b"moof", b"tfhd", b"trun", b"avih", b"strh", b"strf", b"idx1",
)  # fmt: skip
ELEMENTS = tuple(
    bytes.fromhex(name)
    for name in ("18538067", "1549a966", "1654ae6b", "1f43b675", "1c53bb6b", "2ad7b1", "4489", "ae", "a3", "e0", "63a2")
)
TS_PACKET = 188
# FFmpeg searches 64 KB for the next packet of a transport stream.
HOLE_BYTES = 200_000
EXTREME = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00FFFFFF, 0x10000000)
WAYS: dict[str, Callable[[bytearray, random.Random], bytes]] = {
    "truncate": _truncate,
    "scatter": _scatter,
    "header": _header,
    "box": _box,
    "size": _size,
    "dimensions": _dimensions,
    "blank": _blank,
    "move": _move,
    "drop": _drop,
    "element": _element,
    "packet": _packet,
    "zeros": _zeros,
}

if __name__ == "__main__":
    for each in SEEDS:
        write(each, Path(sys.argv[1]))
