"""Writes small videos with exactly known frames: each picture shows its own number in black and white blocks."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from services.analyzer.video.frames import RGB

BITS, BLOCK = 10, 16
WIDTH, HEIGHT = BITS * BLOCK, 64
CLOCK = Fraction(1, 60_000)  # the finest clock of MPEG-4
IDENTITY = bytes.fromhex("00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000")


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> RGB:
    """A picture with the number's bits along the top, lowest at the left, and a grey gradient below."""
    rgb = np.zeros((height, width, 3), dtype=np.uint8)
    rgb[:] = np.linspace(40, 200, width, dtype=np.uint8)[None, :, None]
    for bit in range(BITS):
        rgb[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    return rgb


def number_of(rgb: RGB) -> int:
    """The number that an upright picture of any size shows."""
    scale = rgb.shape[1] / WIDTH
    middle = int(BLOCK * scale / 2)
    return sum((int(rgb[middle, int((bit + 0.5) * BLOCK * scale), 0]) > 127) << bit for bit in range(BITS))


def even(fps: float, count: int) -> list[float]:
    """Times of `count` frames at a constant rate."""
    return [k / fps for k in range(count)]


def write_clip(
    path: Path,
    times: Sequence[float],
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    color: dict[str, int] | None = None,
) -> Path:
    """Write a video whose k-th picture is picture(k), at times[k] seconds. color: attributes of the codec context."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options={"crf": "12"} | (options or {}))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt, stream.codec_context.time_base = pixels, CLOCK
        for name, value in (color or {}).items():
            setattr(stream.codec_context, name, value)
        full = (color or {}).get("color_range", 1)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame = frame.reformat(format=pixels, dst_color_range=full)
            frame.pts, frame.time_base = round(time / CLOCK), CLOCK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def tag_rotation(path: Path) -> Path:
    """Add a tag that turns the pictures 90 degrees clockwise, as an upright phone does."""
    return tag_matrix(path, (0, 1, -1, 0))


def tag_capture_fps(path: Path, rate: str) -> Path:
    """A copy of an MP4 with the tag by which Android's cameras state the rate of a recording."""
    tagged = path.with_stem(f"{path.stem}_tagged")
    with av.open(str(path)) as source, av.open(str(tagged), "w", options={"movflags": "use_metadata_tags"}) as copy:
        copy.metadata["com.android.capture.fps"] = rate
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    return tagged


def tag_matrix(path: Path, matrix: tuple[float, float, float, float]) -> Path:
    """Set the display matrix of an MP4, which shows stored (p, q) at (a p + c q, b p + d q); matrix: a, b, c, d."""
    a, b, c, d = (round(value * 65536) for value in matrix)
    content = path.read_bytes()
    at = content.index(IDENTITY, content.index(b"tkhd"))
    tag = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:at] + tag + content[at + len(IDENTITY) :])
    return path


def trim(path: Path, skip: int, frames: int, fps: float) -> Path:
    """Set an MP4's edit list to show `frames` frames from number `skip` on, as phones trim."""
    content = bytearray(path.read_bytes())
    movie, track, media, edits = (content.index(name) for name in (b"mvhd", b"tkhd", b"mdhd", b"elst"))
    clock, media_clock = (struct.unpack_from(">I", content, at + 16)[0] for at in (movie, media))
    (start,) = struct.unpack_from(">i", content, edits + 16)
    struct.pack_into(">Ii", content, edits + 12, round(clock * frames / fps), start + round(media_clock * skip / fps))
    for at in (movie + 20, track + 24):
        struct.pack_into(">I", content, at, round(clock * frames / fps))
    path.write_bytes(bytes(content))
    return path


def set_edits(path: Path, edits: Sequence[tuple[float, float | None, float]]) -> Path:
    """Replace an MP4's edit list. Each edit: seconds of the movie, start in the media or None for empty, rate.

    The index must stand at the file's end, so that no frame moves.
    """
    content = bytearray(path.read_bytes())
    movie, track, media, old = (content.index(name) - 4 for name in (b"mvhd", b"tkhd", b"mdhd", b"edts"))
    clock, media_clock = (struct.unpack_from(">I", content, at + 20)[0] for at in (movie, media))
    (old_size,), (first,) = struct.unpack_from(">I", content, old), struct.unpack_from(">i", content, old + 28)
    rows = [
        (round(seconds * clock), -1 if start is None else first + round(start * media_clock), round(rate * 65536))
        for seconds, start, rate in edits
    ]
    table = struct.pack(">I4sII", 16 + 12 * len(rows), b"elst", 0, len(rows))
    table += b"".join(struct.pack(">IiI", *row) for row in rows)
    new = struct.pack(">I4s", 8 + len(table), b"edts") + table
    for name in (b"moov", b"trak"):
        at = content.index(name) - 4
        struct.pack_into(">I", content, at, struct.unpack_from(">I", content, at)[0] + len(new) - old_size)
    for at in (movie + 24, track + 28):
        struct.pack_into(">I", content, at, round(clock * sum(seconds for seconds, _, _ in edits)))
    path.write_bytes(content[:old] + new + content[old + old_size :])
    return path


def remux(film: Path, path: Path, **options: str) -> Path:
    """The packets of a film in another container. options: of its muxer."""
    with av.open(str(film)) as source, av.open(str(path), "w", options=options) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return path
